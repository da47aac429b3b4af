package node

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/fault"
)

// assets holds the node's files in layers: common, one for each distribution
// family, and one for each version of containerd's config file. Below a layer
// a file lies where it lies on the node; .tmpl files are text/template on
// Params.
//
//go:embed all:assets
var assets embed.FS

// Params is what differs from node to node.
type Params struct {
	// Family is the distribution's family: debian.
	Family string
	// KubernetesVersion is a version with its leading v: v1.34.0.
	KubernetesVersion string
	// ContainerdConfig is the version of containerd's config file: 3 for
	// containerd 2.x, 2 for 1.7.
	ContainerdConfig int
	// SandboxImage is the reference of the pause image that kubeadm of this
	// version expects: registry.k8s.io/pause:3.10.1.
	SandboxImage string
	// Image is metadata.name of the NodeImage, NodesmithVersion the version of
	// the program, LockDigest the digest (sha256:...) of the lock; they go to
	// /etc/nodesmith-release.
	Image, NodesmithVersion, LockDigest string
	// Firmware is what the disk boots from; it goes there, too, because the
	// absence of a boot loader can't tell what was meant.
	Firmware []string
}

// modes are the modes of assets that are not 0644.
var modes = map[string]Mode{
	// image-builder's, and what goss suites written for it expect.
	"/etc/systemd/system/containerd.service": 0o600,
}

// directories are those of the contract that no package brings.
var directories = []Directory{
	{Path: "/etc/cni/net.d", Mode: 0o755},
	{Path: "/etc/containerd/certs.d", Mode: 0o755},
	{Path: "/etc/containerd/conf.d", Mode: 0o755},
	{Path: "/etc/kubernetes/manifests", Mode: 0o755},
	{Path: "/opt/cni/bin", Mode: 0o755},
	{Path: "/var/lib/kubelet", Mode: 0o755},
}

// links make what is installed below /usr/local reachable where scripts and
// sudo look, and the node's resolver the one that networkd feeds.
var links = []Link{
	{Path: "/etc/resolv.conf", Target: "../run/systemd/resolve/stub-resolv.conf"},
	{Path: "/usr/bin/crictl", Target: "../local/bin/crictl"},
	{Path: "/usr/bin/ctr", Target: "../local/bin/ctr"},
}

// loginRecords are what login and sshd append to; without them they write none.
var loginRecords = []File{
	{Path: "/var/log/btmp", Mode: 0o660, Owner: Owner{Group: "utmp"}},
	{Path: "/var/log/lastlog", Mode: 0o664, Owner: Owner{Group: "utmp"}},
	{Path: "/var/log/wtmp", Mode: 0o664, Owner: Owner{Group: "utmp"}},
}

// family is what a distribution family's nodes have besides files.
type family struct {
	units Units
	cuts  []Cut
}

var families = map[string]family{
	"debian": {
		units: Units{
			Enable: []string{
				"auditd.service", "chrony.service", "containerd.service", "kubelet.service", "ssh.service",
				"systemd-networkd.service", "systemd-resolved.service",
			},
			// A node changes when it is replaced, not in the night.
			Mask: []string{"apt-daily.timer", "apt-daily-upgrade.timer"},
		},
		// Bootstrap data may include a file that a boothook has yet to fetch (Cluster
		// API on AWS): a part that can't be read must not end the rest of user data.
		// cloud-init 23.3 gave up the file feature_overrides.py that said so.
		cuts: []Cut{{
			Path:    "/usr/lib/python3/dist-packages/cloudinit/features.py",
			Lines:   `^ERROR_ON_USER_DATA_FAILURE\s*=`,
			Instead: "ERROR_ON_USER_DATA_FAILURE = False",
		}},
	},
}

// release is what may stand between the quotes of /etc/nodesmith-release.
var release = regexp.MustCompile(`^[A-Za-z0-9._:+@/-]*$`)

// Base returns the configuration that every node of these parameters has: what
// image-contract asks for, before anything a user adds (Config.With).
func Base(p Params) (Config, error) {
	own, ok := families[p.Family]
	if !ok {
		return Config{}, fault.New(fault.BadSpec, "", "no node files for distribution family %q; there are: %s",
			p.Family, strings.Join(slices.Sorted(maps.Keys(families)), ", "))
	}
	for _, s := range []string{p.KubernetesVersion, p.SandboxImage, p.Image, p.NodesmithVersion, p.LockDigest} {
		if !release.MatchString(s) {
			return Config{}, fault.New(fault.BadSpec, "", "node parameter %q does not match %s", s, release)
		}
	}
	if !strings.HasPrefix(p.KubernetesVersion, "v") || p.SandboxImage == "" {
		return Config{}, fault.New(fault.BadSpec, "", "a node needs a Kubernetes version such as v1.34.0 and a sandbox image, not %q and %q",
			p.KubernetesVersion, p.SandboxImage)
	}
	c := Config{
		Directories: slices.Clone(directories),
		Files:       slices.Clone(loginRecords),
		Links:       slices.Clone(links),
		Units:       Units{Enable: slices.Clone(own.units.Enable), Mask: slices.Clone(own.units.Mask)},
		Cuts:        slices.Clone(own.cuts),
	}
	for _, layer := range []string{"common", p.Family, fmt.Sprintf("containerd-config-%d", p.ContainerdConfig)} {
		files, err := layerFiles(layer, p)
		if err != nil {
			return Config{}, err
		}
		c = c.With(Config{Files: files})
	}
	slices.SortFunc(c.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return c, nil
}

// layerFiles renders one layer of the assets, in the order of its paths.
func layerFiles(layer string, p Params) ([]File, error) {
	files, err := FilesBelow(assets, path.Join("assets", layer))
	if err != nil {
		return nil, fmt.Errorf("node files of layer %s (is there one of that name?): %w", layer, err)
	}
	for i, f := range files {
		if base, ok := strings.CutSuffix(f.Path, ".tmpl"); ok {
			files[i].Path = base
			if files[i].Content, err = render(f.Path, f.Content, p); err != nil {
				return nil, fmt.Errorf("node files of layer %s: %w", layer, err)
			}
		}
		files[i].Mode = modes[files[i].Path]
	}
	return files, nil
}

// FilesBelow returns the files below a directory of fsys as files of the node:
// they lie below the root as they do below the directory, in the order of their
// paths.
func FilesBelow(fsys fs.FS, dir string) ([]File, error) {
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		return nil, err
	}
	var files []File
	err = fs.WalkDir(sub, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(sub, name)
		files = append(files, File{Path: "/" + name, Content: string(content)})
		return err
	})
	return files, err
}

func render(name, text string, p Params) (string, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return "", err
	}
	return b.String(), nil
}

// sortedKeys returns m's keys in order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// RenderSysctls returns the content of UserSysctls: the parameters in the order
// of their names.
func RenderSysctls(m map[string]string) string {
	var b strings.Builder
	for _, k := range sortedKeys(m) {
		fmt.Fprintf(&b, "%s = %s\n", k, m[k])
	}
	return b.String()
}
