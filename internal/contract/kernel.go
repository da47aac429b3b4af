package contract

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// kernelChecks look at modules and at swap.
var kernelChecks = []Check{
	{
		ID: "kernel.modules-load", Title: "overlay and br_netfilter are loaded at boot", Severity: Required,
		Why: "containerd keeps container images on overlay; without br_netfilter pod traffic over a bridge passes iptables by, and kubeadm's preflight fails.",
		How: "modules-load.d (below /etc, /run, /usr/local/lib, /usr/lib) names both, or the kernel has them built in.",
		run: func(n *node, r *result) {
			loaded := n.modulesLoaded()
			for _, m := range []string{"overlay", "br_netfilter"} {
				if !slices.Contains(loaded, m) && !n.builtin()[m] {
					r.fail("%s is not in modules-load.d", m)
				}
			}
		},
	},
	{
		ID: "kernel.modules-loadable", Title: "The booted kernel has the modules that are to be loaded", Severity: Required,
		Why: "systemd-modules-load skips what it does not find; the node then fails when the first pod starts.",
		How: "modules.dep or modules.builtin of the kernel in the boot menu has every module of modules-load.d, and the files are there.",
		run: func(n *node, r *result) {
			release, err := n.kernelRelease()
			if err != nil {
				r.fail("%v", err)
				return
			}
			have := n.modules(release)
			for _, m := range append(n.modulesLoaded(), "overlay", "br_netfilter", "nf_conntrack", "ip_tables", "veth", "vxlan") {
				file, ok := have[moduleName(m)]
				switch {
				case ok && (file == "" || n.tree.Exists(file)):
				case ok:
					r.fail("%s is in modules.dep, and %s does not exist", m, file)
				case n.aliased(release, m):
				default:
					r.fail("kernel %s has no module %s", release, m)
				}
			}
		},
	},
	{
		ID: "kernel.cgroup-v2", Title: "systemd is new enough for cgroup v2", Severity: Required, Kubernetes: ">=v1.35",
		Why: "The kubelet refuses cgroup v1 from v1.35 on.",
		How: "The systemd in /usr/lib/systemd is at least 244, by the name of libsystemd-shared.",
		run: checkSystemdVersion,
	},
	{
		ID: "node.no-swap", Title: "Nothing turns on swap", Severity: Required,
		Why: "The kubelet refuses to start with swap on (failSwapOn), and kubeadm's preflight fails.",
		How: "/etc/fstab has no swap line that is not a comment, no .swap unit is installed, no zram generator is set up.",
		run: checkSwap,
	},
	{
		ID: "node.no-swap-file", Title: "No swap file takes room", Severity: Required,
		Why: "Installers leave a swap file behind that is copied with every clone and turned on again by hand.",
		How: "None of /swap.img, /swapfile, /swap and /mnt/resource/swapfile exists.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/swap.img", "/swapfile", "/swap", "/mnt/resource/swapfile")
		},
	},
}

// moduleName is how the kernel itself spells a module.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// modulesLoaded lists what systemd-modules-load loads.
func (n *node) modulesLoaded() []string {
	var out []string
	for _, text := range n.dropIns("modules-load.d") {
		for _, line := range configLines(text) {
			out = append(out, moduleName(strings.Fields(line)[0]))
		}
	}
	return out
}

// modulesDir is where a kernel's modules lie.
func modulesDir(release string) string { return path.Join("/usr/lib/modules", release) }

// kernelRelease is the release of the kernel in the boot menu, by the name of
// its file (vmlinuz-RELEASE) or, if there is only one, of the modules' directory.
func (n *node) kernelRelease() (string, error) {
	releases := n.list("/usr/lib/modules")
	if len(releases) == 0 {
		releases = n.list("/lib/modules")
	}
	if entries, err := n.entries(); err == nil {
		if _, release, ok := strings.Cut(path.Base(n.bootFile(entries[0].kernel)), "-"); ok {
			if slices.Contains(releases, release) {
				return release, nil
			}
			return "", fmt.Errorf("there are no modules for the kernel %s of the boot menu", release)
		}
	}
	if len(releases) == 1 {
		return releases[0], nil
	}
	return "", fmt.Errorf("the boot menu does not say which kernel is booted, and /usr/lib/modules has %d", len(releases))
}

// modules maps a kernel's modules to their files, "" for those built in.
func (n *node) modules(release string) map[string]string {
	out := map[string]string{}
	dir := modulesDir(release)
	for line := range strings.Lines(n.text(path.Join(dir, "modules.dep"))) {
		if file, _, ok := strings.Cut(line, ":"); ok {
			out[moduleOf(file)] = path.Join(dir, file)
		}
	}
	for line := range strings.Lines(n.text(path.Join(dir, "modules.builtin"))) {
		out[moduleOf(strings.TrimSpace(line))] = ""
	}
	return out
}

// moduleOf is the name of the module in a file such as kernel/fs/overlayfs/overlay.ko.xz.
func moduleOf(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return moduleName(name)
}

// aliased reports whether a module is known by another name.
func (n *node) aliased(release, name string) bool {
	for line := range strings.Lines(n.text(path.Join(modulesDir(release), "modules.alias"))) {
		if f := strings.Fields(line); len(f) == 3 && moduleName(f[1]) == moduleName(name) {
			return true
		}
	}
	return false
}

// builtin has the modules that are part of the booted kernel.
func (n *node) builtin() map[string]bool {
	out := map[string]bool{}
	if release, err := n.kernelRelease(); err == nil {
		for m, file := range n.modules(release) {
			if file == "" {
				out[m] = true
			}
		}
	}
	return out
}

func checkSystemdVersion(n *node, r *result) {
	for _, pattern := range []string{"/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-*.so", "/usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-*.so", "/usr/lib/systemd/libsystemd-shared-*.so", "/usr/lib64/systemd/libsystemd-shared-*.so"} {
		for _, file := range n.tree.Glob(pattern) {
			version := 0
			if _, err := fmt.Sscanf(path.Base(file), "libsystemd-shared-%d", &version); err != nil {
				continue
			}
			if version < 244 {
				r.fail("systemd is %d", version)
			}
			r.note("systemd %d", version)
			return
		}
	}
	r.fail("there is no libsystemd-shared")
}

func checkSwap(n *node, r *result) {
	for _, m := range n.tree.Mounts() {
		if m.Kind == "swap" {
			r.fail("/etc/fstab turns on swap on %s", m.Device)
		}
	}
	for _, dir := range unitDirs {
		for _, name := range n.list(dir) {
			if strings.HasSuffix(name, ".swap") && !n.masked(name) {
				r.fail("%s turns on swap", path.Join(dir, name))
			}
		}
	}
	for _, dir := range []string{"/etc", "/usr/lib"} {
		if file := path.Join(dir, "systemd/zram-generator.conf"); len(configLines(n.text(file))) > 0 {
			r.fail("%s sets up swap in memory", file)
		}
	}
}

// refuseFiles fails for every file that exists, be it a link to nowhere.
func (n *node) refuseFiles(r *result, patterns ...string) {
	for _, p := range patterns {
		if !strings.ContainsAny(p, "*?[") {
			if _, err := n.tree.Lstat(p); err == nil {
				r.fail("%s exists", p)
			}
			continue
		}
		for _, name := range n.tree.Glob(p) {
			r.fail("%s exists", name)
		}
	}
}

// setting is a kernel parameter that the contract asks for.
type setting struct {
	key, value string
	severity   Severity
	families   []Family
	why        string
}

var settings = []setting{
	{"net.bridge.bridge-nf-call-iptables", "1", Required, nil, "Services are iptables or nftables rules, which must see traffic between pods on one bridge; kubeadm's preflight asks for it."},
	{"net.bridge.bridge-nf-call-ip6tables", "1", Required, nil, "The same for IPv6."},
	{"net.ipv4.ip_forward", "1", Required, nil, "A node routes its pods' traffic; kubeadm's preflight asks for it."},
	{"net.ipv6.conf.all.forwarding", "1", Required, nil, "Dual-stack clusters route IPv6 as well."},
	{"net.ipv6.conf.all.disable_ipv6", "0", Required, nil, "kube-proxy and CNI plugins listen on IPv6 addresses."},
	{"vm.overcommit_memory", "1", Required, nil, "The kubelet sets it with protectKernelDefaults off, and refuses to start with it on when it differs."},
	{"kernel.panic", "10", Required, nil, "A node that panicked reboots; the kubelet expects the value as for vm.overcommit_memory."},
	{"kernel.panic_on_oops", "1", Required, nil, "A node with a damaged kernel does not go on; the kubelet expects the value as for vm.overcommit_memory."},
	{"net.ipv4.tcp_congestion_control", "bbr", Recommended, nil, "Upstream's node images use BBR."},
	{"fs.inotify.max_user_instances", "8192", Recommended, nil, "Many pods that watch files run out of the kernel's 128."},
	{"fs.inotify.max_user_watches", "524288", Recommended, nil, "Many pods that watch files run out of the kernel's default."},
}

// sysctlChecks has one check for each setting.
func sysctlChecks() []Check {
	var out []Check
	for _, s := range settings {
		out = append(out, Check{
			ID: "sysctl." + s.key, Title: s.key + " = " + s.value, Severity: s.severity, Families: s.families, Why: s.why,
			How: "The last of the files in sysctl.d (below /etc, /run, /usr/local/lib, /usr/lib, by name) that sets it.",
			run: func(n *node, r *result) {
				value, set := n.sysctls()[s.key]
				switch {
				case !set:
					r.fail("it is not set")
				case value != s.value:
					r.fail("it is %s", value)
				}
			},
		})
	}
	return out
}

// sysctls returns what systemd-sysctl sets at boot, keys with dots.
func (n *node) sysctls() map[string]string {
	out := map[string]string{}
	for _, text := range n.dropIns("sysctl.d") {
		for _, line := range configLines(text) {
			key, value, ok := strings.Cut(strings.TrimPrefix(line, "-"), "=")
			if ok {
				out[sysctlKey(strings.TrimSpace(key))] = strings.TrimSpace(value)
			}
		}
	}
	return out
}

// sysctlKey writes a key with dots, whichever separator comes first in it
// (sysctl.d(5)).
func sysctlKey(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return strings.NewReplacer("/", ".", ".", "/").Replace(key)
	}
	return key
}
