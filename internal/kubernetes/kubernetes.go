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
	// Containerd, Runc, CNIPlugins and CRITools are Go module versions (v2.1.4).
	Containerd, Runc, CNIPlugins, CRITools string
	// RuncRequires are go.mod requirements, "path version", added to the build
	// of runc.
	RuncRequires []string
	// KubeadmAPI is the newest configuration API that this kubeadm reads.
	KubeadmAPI string
	// ContainerdConfig is the version of containerd's configuration file.
	ContainerdConfig int
	// Sums are go.sum lines of modules that the public checksum database does
	// not list; they verify those modules as a go.sum in a repository would.
	Sums []string
}

// releases has one row per minor version that nodesmith can build, each built
// and booted before it was entered.
var releases = []Release{
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
		KubeadmAPI:       "kubeadm.k8s.io/v1beta4",
		ContainerdConfig: 3,
		Sums: []string{
			"sigs.k8s.io/cri-tools v1.34.0 h1:KqL9EJ+WgHtz1HR1exezm91n+o8O2uMLs/eHzHJHAWw=",
			"sigs.k8s.io/cri-tools v1.34.0/go.mod h1:JyYVG0YFsly+p/hfDfmQcQBNFVHh0+BpMTn49YpasMA=",
		},
	},
}

// Lookup returns the row for a full version such as v1.34.0. A version that is
// malformed or whose minor version has no row is a fault.BadSpec.
func Lookup(version string) (Release, error) {
	minor, _, err := split(version)
	if err != nil {
		return Release{}, err
	}
	for _, r := range releases {
		if r.Minor == minor {
			return r, nil
		}
	}
	return Release{}, fault.New(fault.BadSpec, "choose one of "+strings.Join(Minors(), ", "),
		"Kubernetes %s: this nodesmith does not know how to build v1.%d", version, minor)
}

// Known reports whether a minor version (v1.34) can be built.
func Known(minor string) bool { return slices.Contains(Minors(), minor) }

// Minors lists the minor versions that can be built, v1.34 and so on, oldest first.
func Minors() []string {
	out := make([]string, 0, len(releases))
	for _, r := range releases {
		out = append(out, fmt.Sprintf("v1.%d", r.Minor))
	}
	return out
}

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
	if !semver.IsValid(version) || semver.Canonical(version) != version || semver.Major(version) != "v1" {
		return bad()
	}
	mm := semver.MajorMinor(version)
	minor, err = strconv.Atoi(strings.TrimPrefix(mm, "v1."))
	if err != nil {
		return bad()
	}
	return minor, strings.TrimPrefix(version, mm), nil
}
