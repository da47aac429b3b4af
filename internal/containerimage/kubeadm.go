package containerimage

import (
	"embed"
	"encoding/binary"
	"fmt"
	"path"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
)

//go:embed assets
var assets embed.FS

// searchPath is the PATH of every image: what containerd gives to a container
// whose image has none.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Unprivileged users: 65532 is "nonroot" of the distroless images that
// upstream's CoreDNS is built on, 65535 the one of upstream's pause image.
const (
	nonRoot  = 65532
	pauseUID = 65535
)

// component says how the image of one of kubeadm's components is made.
type component struct {
	programs   []string // files below Inputs.Binaries
	dir        string   // where they go
	entrypoint []string
	cmd        []string
	user       string
	xattrs     map[string][]byte
	layers     []string // below the component's own
}

// components follow what upstream's images look like to a pod: kubeadm's
// static pods run their program by name from PATH, its DaemonSet runs
// /usr/local/bin/kube-proxy, CoreDNS and pause are their images' entry points.
var components = map[string]component{
	"kube-apiserver":          {programs: []string{"kube-apiserver"}, dir: "/usr/local/bin", entrypoint: []string{"/usr/local/bin/kube-apiserver"}, layers: []string{baseLayer}},
	"kube-controller-manager": {programs: []string{"kube-controller-manager"}, dir: "/usr/local/bin", entrypoint: []string{"/usr/local/bin/kube-controller-manager"}, layers: []string{baseLayer}},
	"kube-scheduler":          {programs: []string{"kube-scheduler"}, dir: "/usr/local/bin", entrypoint: []string{"/usr/local/bin/kube-scheduler"}, layers: []string{baseLayer}},
	"kube-proxy":              {programs: []string{"kube-proxy"}, dir: "/usr/local/bin", entrypoint: []string{"/usr/local/bin/kube-proxy"}, layers: []string{baseLayer, netfilterLayer}},
	"etcd":                    {programs: []string{"etcd", "etcdctl", "etcdutl"}, dir: "/usr/local/bin", cmd: []string{"/usr/local/bin/etcd"}, layers: []string{baseLayer}},
	"coredns": {
		programs: []string{"coredns"}, dir: "/", entrypoint: []string{"/coredns"}, layers: []string{baseLayer},
		user: fmt.Sprintf("%d:%d", nonRoot, nonRoot),
		// Port 53, for a user who is not root.
		xattrs: map[string][]byte{"security.capability": fileCapabilities(capNetBindService)},
	},
	"pause": {programs: []string{"pause"}, dir: "/", entrypoint: []string{"/pause"}, user: fmt.Sprintf("%d:%d", pauseUID, pauseUID)},
}

// Names of the layers that images share.
const (
	baseLayer      = "base"
	netfilterLayer = "netfilter"
)

// capNetBindService is CAP_NET_BIND_SERVICE of linux/capability.h.
const capNetBindService = 10

// fileCapabilities encodes permitted and effective file capabilities
// (setcap cap_...+ep) as the kernel stores them: struct vfs_cap_data of
// linux/capability.h, revision 2.
func fileCapabilities(caps ...uint) []byte {
	const revision2, effective = 0x02000000, 0x000001
	var permitted uint64
	for _, c := range caps {
		permitted |= 1 << c
	}
	var data []byte
	for _, word := range []uint32{revision2 | effective, uint32(permitted), 0, uint32(permitted >> 32), 0} {
		data = binary.LittleEndian.AppendUint32(data, word)
	}
	return data
}

// Inputs says where a step finds what kubeadm's images are made of.
type Inputs struct {
	// Binaries are the paths of static programs by name: kube-apiserver, ...,
	// etcd, etcdctl, etcdutl, coredns, pause.
	Binaries map[string]string
	// ImageBase is a Debian tree, unpacked and not configured, with
	// ca-certificates, iptables, nftables, kmod and what these need.
	ImageBase string
}

// Kubeadm returns the configuration that makes the images that kubeadm asks
// for. The result depends on its arguments only; no input is read.
// An image of an unknown component is a fault.BadSpec.
func Kubeadm(images []lock.ContainerImage, in Inputs, architecture, output string) (Config, error) {
	base, err := in.base()
	if err != nil {
		return Config{}, err
	}
	cfg := Config{Output: output, Architecture: architecture, Layers: []Layer{base, in.netfilter()}}
	for _, img := range images {
		c, known := components[img.Component]
		if !known {
			return Config{}, fault.New(fault.BadSpec, "", "image %s: there is no recipe for component %q", img.Name, img.Component)
		}
		layer := Layer{Name: img.Component}
		for _, program := range c.programs {
			from, known := in.Binaries[program]
			if !known {
				return Config{}, fmt.Errorf("image %s: program %s was not built", img.Name, program)
			}
			layer.Files = append(layer.Files, File{From: from, To: path.Join(c.dir, program), Mode: 0o755, Xattrs: c.xattrs})
		}
		cfg.Layers = append(cfg.Layers, layer)
		cfg.Images = append(cfg.Images, Image{
			Name:       img.Name,
			Layers:     append(c.layers[:len(c.layers):len(c.layers)], layer.Name),
			Entrypoint: c.entrypoint,
			Cmd:        c.cmd,
			Env:        []string{searchPath},
			User:       c.user,
			WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title": img.Component,
				// These are not upstream's bits, and say so.
				"dev.nodesmith.built-from": "source",
			},
		})
	}
	return cfg, nil
}

// base is the layer below every image but pause: users, name resolution order,
// a place for temporary files, and the certificate authorities that Mozilla
// trusts.
func (in Inputs) base() (Layer, error) {
	layer := Layer{
		Name: baseLayer,
		Directories: []Directory{
			{Path: "/root", Mode: 0o700},
			{Path: "/home/nonroot", Mode: 0o700, UID: nonRoot, GID: nonRoot},
			{Path: "/tmp", Mode: 0o1777},
		},
		Files: []File{{
			From: path.Join(in.ImageBase, "usr/share/ca-certificates/mozilla/*.crt"),
			To:   "/etc/ssl/certs/ca-certificates.crt", Mode: 0o644,
		}},
	}
	for _, name := range []string{"/etc/group", "/etc/nsswitch.conf", "/etc/passwd"} {
		content, err := assets.ReadFile("assets" + name)
		if err != nil {
			return Layer{}, err
		}
		layer.Files = append(layer.Files, File{Content: string(content), To: name, Mode: 0o644})
	}
	return layer, nil
}

// netfilter is what kube-proxy calls: iptables (the nft variant, which is what
// kernels of today's distributions want), nft and modprobe. The tree's packages
// were not configured, so the links that update-alternatives would have made
// are made here.
func (in Inputs) netfilter() Layer {
	layer := Layer{
		Name:     netfilterLayer,
		Trees:    []Tree{{From: in.ImageBase, To: "/"}},
		Programs: []string{"/usr/sbin/xtables-nft-multi", "/usr/sbin/nft", "/usr/bin/kmod"},
	}
	// base-files, if it is in the tree, brings these links.
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		layer.Links = append(layer.Links, Link{Path: "/" + dir, Target: "usr/" + dir, IfAbsent: true})
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, verb := range []string{"", "-save", "-restore"} {
			layer.Links = append(layer.Links, Link{Path: "/usr/sbin/" + family + verb, Target: "xtables-nft-multi"})
		}
	}
	return layer
}
