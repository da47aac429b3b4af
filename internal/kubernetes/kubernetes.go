// Package kubernetes holds what differs between Kubernetes versions, as a table.
//
// What comes in is a version such as v1.34.0, what goes out is the row of its
// minor version: the node software that is released apart from Kubernetes but
// tested together with it, and the versions of the configuration files that
// the node gets. What Kubernetes says about itself (its Go toolchain, the etcd,
// CoreDNS and pause that its kubeadm asks for) is read from its source when it
// is locked and does not stand here.
package kubernetes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Release is what a minor version of Kubernetes needs beside itself.
type Release struct {
	// Minor is the number after "1.": 34.
	Minor int
	// ArchiveOnly marks a version that nodesmith does not compile: its programs
	// come from an archive, such as a vendor's long-term support build.
	ArchiveOnly bool
	// Containerd, Runc, CNIPlugins and CRITools are the versions (v2.1.4) of
	// what a node has beside Kubernetes; Go module versions unless ArchiveOnly.
	Containerd, Runc, CNIPlugins, CRITools string
	// Pause is the tag of the pause image that this kubeadm asks for
	// (cmd/kubeadm/app/constants/constants.go); patches have not changed it.
	Pause string
	// RuncRequires are go.mod requirements, "path version", added to the build
	// of runc.
	RuncRequires []string
	// KubeadmAPI is the newest configuration API that this kubeadm reads
	// (cmd/kubeadm/app/apis/kubeadm/scheme/scheme.go).
	KubeadmAPI string
	// ContainerdConfig is the version of containerd's configuration file.
	ContainerdConfig int
	// Sums are go.sum lines of modules that the public checksum database does
	// not list; they verify those modules as a go.sum in a repository would.
	Sums []string
}

// releases has one row per minor version. Those that are compiled from modules
// were locked with their newest patch before they were entered; of each, one patch
// was built and booted on Debian 12 and 13 (v1.34.0, v1.35.0, v1.36.4, v1.37.2).
var releases = []Release{
	older(27, "v1.2.0", "v1.27.1", "3.9", "kubeadm.k8s.io/v1beta3"),
	older(28, "v1.2.0", "v1.28.0", "3.9", "kubeadm.k8s.io/v1beta3"),
	older(29, "v1.3.0", "v1.29.0", "3.9", "kubeadm.k8s.io/v1beta3"),
	older(30, "v1.4.0", "v1.30.1", "3.9", "kubeadm.k8s.io/v1beta3"),
	older(31, "v1.5.1", "v1.31.1", "3.10", "kubeadm.k8s.io/v1beta4"),
	older(32, "v1.6.0", "v1.32.0", "3.10", "kubeadm.k8s.io/v1beta4"),
	older(33, "v1.6.2", "v1.33.0", "3.10", "kubeadm.k8s.io/v1beta4"),
	{
		Minor:      34,
		Containerd: "v2.1.4",
		Runc:       "v1.3.3",
		CNIPlugins: "v1.8.0",
		CRITools:   "v1.34.0",
		// runc v1.3.3 carries the fix of CVE-2025-52881 in a patched copy of
		// this module, and a nested module is not part of a module zip. v1.13.1
		// is the release with that patch; runc v1.3.4 requires it itself.
		RuncRequires:     []string{"github.com/opencontainers/selinux v1.13.1"},
		Pause:            "3.10.1",
		KubeadmAPI:       "kubeadm.k8s.io/v1beta4",
		ContainerdConfig: 3,
		Sums:             criTools134,
	},
	{
		Minor:      35,
		Containerd: "v2.2.4", // 2.3 needs a newer Go than the 1.25 of this Kubernetes
		Runc:       "v1.4.3",
		CNIPlugins: "v1.9.1",
		// The proxy serves no v1.35 of it, and v1.36.0 needs Go 1.26. crictl
		// speaks the same version of the CRI to every containerd 2.
		CRITools:         "v1.34.0",
		Pause:            "3.10.1",
		KubeadmAPI:       "kubeadm.k8s.io/v1beta4",
		ContainerdConfig: 3,
		Sums:             criTools134,
	},
	{
		Minor:            36,
		Containerd:       "v2.3.2",
		Runc:             "v1.4.3",
		CNIPlugins:       "v1.9.1",
		CRITools:         "v1.36.0",
		Pause:            "3.10.2",
		KubeadmAPI:       "kubeadm.k8s.io/v1beta4",
		ContainerdConfig: 3,
	},
	{
		Minor:            37,
		Containerd:       "v2.3.2",
		Runc:             "v1.4.3",
		CNIPlugins:       "v1.9.1",
		CRITools:         "v1.36.0", // the proxy serves v1.37.0 without its zip file
		Pause:            "3.10.2",
		KubeadmAPI:       "kubeadm.k8s.io/v1",
		ContainerdConfig: 3,
	},
}

// older is the row of a version whose node ran containerd 1.7: crictl of the
// same minor version, the other versions as in the source of v1.27.16, v1.28.15,
// v1.29.14, v1.30.14, v1.31.14, v1.32.10 and v1.33.6 (build/dependencies.yaml,
// cmd/kubeadm/app). kubeadm reads v1beta4 from 1.31 on; from 1.28 to 1.30 only
// where its experimental APIs are allowed. No such version has been built here.
func older(minor int, cniPlugins, criTools, pause, kubeadmAPI string) Release {
	return Release{
		Minor: minor, ArchiveOnly: true,
		Containerd: "v1.7.29", Runc: "v1.3.3", // containerd's script/setup/runc-version
		CNIPlugins: cniPlugins, CRITools: criTools, Pause: pause, KubeadmAPI: kubeadmAPI, ContainerdConfig: 2,
	}
}

var criTools134 = []string{
	"sigs.k8s.io/cri-tools v1.34.0 h1:KqL9EJ+WgHtz1HR1exezm91n+o8O2uMLs/eHzHJHAWw=",
	"sigs.k8s.io/cri-tools v1.34.0/go.mod h1:JyYVG0YFsly+p/hfDfmQcQBNFVHh0+BpMTn49YpasMA=",
}

// Lookup returns the row for a full version such as v1.34.0 or
// v1.27.5+vmware.1. A version that is malformed or whose minor version has no
// row is a fault.BadSpec.
func Lookup(version string) (Release, error) {
	return find(version, func(Release) bool { return true }, "knows nothing about")
}

// Compilable returns the row for a version that is compiled from published
// modules; any other is a fault.BadSpec, and so is one with build metadata,
// which no module version has.
func Compilable(version string) (Release, error) {
	r, err := find(version, Release.compilable, "does not know how to build")
	if err == nil && semver.Build(version) != "" {
		return Release{}, fault.New(fault.BadSpec, "leave out "+semver.Build(version),
			"Kubernetes %s: no Go module has such a version", version)
	}
	return r, err
}

// compilable says whether the row's programs are compiled from modules.
func (r Release) compilable() bool { return !r.ArchiveOnly }

// find returns the version's row, if it is one of those that are wanted.
func find(version string, wanted func(Release) bool, failing string) (Release, error) {
	minor, _, err := split(version)
	if err != nil {
		return Release{}, err
	}
	var minors []string
	for _, r := range releases {
		if !wanted(r) {
			continue
		}
		if r.Minor == minor {
			return r, nil
		}
		minors = append(minors, r.name())
	}
	return Release{}, fault.New(fault.BadSpec, "choose one of "+strings.Join(minors, ", "),
		"Kubernetes %s: this nodesmith %s v1.%d", version, failing, minor)
}

// name is the minor version as users write it: v1.34.
func (r Release) name() string { return fmt.Sprintf("v1.%d", r.Minor) }

// Known reports whether a minor version (v1.34) can be built.
func Known(minor string) bool { return slices.Contains(Minors(), minor) }

// Minors lists the minor versions that can be built, v1.34 and so on, oldest
// first. Rows for archives alone are not among them.
func Minors() []string {
	out := make([]string, 0, len(releases))
	for _, r := range releases {
		if r.compilable() {
			out = append(out, r.name())
		}
	}
	return out
}

// ContainerdConfigs maps each minor version, v1.34 and so on, to the version of
// its containerd's configuration file.
func ContainerdConfigs() map[string]int {
	versions := map[string]int{}
	for _, r := range releases {
		versions[r.name()] = r.ContainerdConfig
	}
	return versions
}

// KubeletConfigDir says whether this kubelet reads drop-ins from --config-dir.
// It came in 1.28, but until 1.29 an environment variable had to allow it
// (KEP-3983).
func (r Release) KubeletConfigDir() bool { return r.Minor >= 30 }

// StagingVersion returns the version under which the modules of Kubernetes'
// staging directory (k8s.io/api and so on) are published: v0.34.0 for v1.34.0.
func StagingVersion(version string) (string, error) {
	minor, rest, err := split(version)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("v0.%d%s", minor, rest), nil
}

// split takes v1.34.0 apart into 34 and ".0".
func split(version string) (minor int, rest string, err error) {
	bad := func() (int, string, error) {
		return 0, "", fault.New(fault.BadSpec, "write it in full, with the leading v: v1.34.0",
			"%q is not a Kubernetes version", version)
	}
	release := strings.TrimSuffix(version, semver.Build(version))
	if !semver.IsValid(version) || semver.Canonical(version) != release || semver.Major(version) != "v1" {
		return bad()
	}
	mm := semver.MajorMinor(version)
	minor, err = strconv.Atoi(strings.TrimPrefix(mm, "v1."))
	if err != nil {
		return bad()
	}
	return minor, strings.TrimPrefix(version, mm), nil
}
