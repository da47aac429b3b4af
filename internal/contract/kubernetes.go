package contract

import (
	"path"
	"slices"
	"strings"
)

// kubernetesChecks look at Kubernetes' own programs and files.
var kubernetesChecks = []Check{
	{
		ID: "kubernetes.programs", Title: "kubelet, kubeadm and kubectl are there and tell their version", Severity: Required,
		Why: "Cluster API runs kubeadm on the node and never installs anything.",
		How: "ELF programs on PATH; the version is that of the module k8s.io/kubernetes or of the linker flags in their build information, else the one version string that the linker stamped.",
		run: func(n *node, r *result) {
			for _, name := range []string{"kubelet", "kubeadm", "kubectl"} {
				switch p := n.program(name); {
				case p.err != nil:
					r.fail("%v", p.err)
				case p.version == "":
					r.fail("%s does not tell its version", p.path)
				default:
					r.note("%s %s", p.path, p.version)
				}
			}
		},
	},
	{
		ID: "kubernetes.one-version", Title: "kubelet, kubeadm and kubectl are of one version", Severity: Required,
		Why: "kubeadm refuses a kubelet newer than itself, and an image with two versions is found under one of them only.",
		How: "The versions in the programs' build information are equal.",
		run: func(n *node, r *result) {
			for _, name := range []string{"kubelet", "kubectl"} {
				if p := n.program(name); p.err == nil && p.version != "" && n.kubernetes != "" && p.version != n.kubernetes {
					r.fail("%s is %s, kubeadm is %s", name, p.version, n.kubernetes)
				}
			}
		},
	},
	{
		ID: "kubernetes.version-file", Title: "/etc/kubernetes-version says kubeadm's version", Severity: Required,
		Why: "Tools that look images up read it; an image is found by Machine.spec.version.",
		How: "The file's text, with or without v and a line break, is the version in kubeadm.",
		run: func(n *node, r *result) {
			content, err := n.tree.ReadFile("/etc/kubernetes-version")
			if err != nil {
				r.fail("%v", err)
				return
			}
			if v := withV(strings.TrimSpace(string(content))); n.kubernetes != "" && v != n.kubernetes {
				r.fail("it says %s, kubeadm is %s", v, n.kubernetes)
			}
		},
	},
	{
		ID: "kubernetes.architecture", Title: "All programs are for one architecture", Severity: Required,
		Why: "A program of another architecture fails with \"exec format error\", on the node.",
		How: "e_machine of kubelet, kubeadm, kubectl, containerd, its shim, runc, crictl and of the CNI plugins.",
		run: func(n *node, r *result) {
			for _, name := range []string{"kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "runc", "crictl"} {
				if p := n.program(name); p.architecture != "" && p.architecture != n.architecture {
					r.fail("%s is for %s, the kubelet for %s", p.path, p.architecture, n.architecture)
				}
			}
			for _, name := range n.list(cniDir) {
				content, err := n.tree.Content(path.Join(cniDir, name))
				if err != nil {
					continue
				}
				if arch, _, _ := inspect(content, origin{}); arch != "" && arch != n.architecture {
					r.fail("%s is for %s, the kubelet for %s", path.Join(cniDir, name), arch, n.architecture)
				}
			}
		},
	},
	{
		ID: "kubernetes.kubelet-unit", Title: "The kubelet's unit restarts it for ever", Severity: Required,
		Why: "The kubelet fails until kubeadm has written its configuration; a unit that gives up leaves the node dead.",
		How: "kubelet.service with its drop-ins: ExecStart runs the kubelet, Restart=always, StartLimitInterval=0.",
		run: func(n *node, r *result) {
			if n.unitFile("kubelet.service") == "" {
				r.fail("there is no kubelet.service")
				return
			}
			s := n.unitSettings("kubelet.service")
			if last(s["Service.Restart"]) != "always" {
				r.fail("Restart is %q", last(s["Service.Restart"]))
			}
			if limit := last(slices.Concat(s["Unit.StartLimitIntervalSec"], s["Unit.StartLimitInterval"], s["Service.StartLimitInterval"])); limit != "0" {
				r.fail("StartLimitInterval is %q", limit)
			}
			start := strings.Fields(last(s["Service.ExecStart"]))
			if len(start) == 0 || path.Base(start[0]) != "kubelet" || !n.tree.Exists(strings.TrimLeft(start[0], "-@:+!")) {
				r.fail("ExecStart is %q", last(s["Service.ExecStart"]))
			}
		},
	},
	{
		ID: "kubernetes.kubelet-drop-in", Title: "The kubelet takes kubeadm's configuration", Severity: Required,
		Why: "kubeadm writes the kubelet's flags and configuration to fixed places; a unit that does not read them starts a kubelet without a cluster.",
		How: "kubelet.service with its drop-ins: ExecStart uses KUBELET_KUBECONFIG_ARGS, KUBELET_CONFIG_ARGS, KUBELET_KUBEADM_ARGS and KUBELET_EXTRA_ARGS; the environment names bootstrap-kubelet.conf, kubelet.conf, config.yaml and kubeadm-flags.env.",
		run: func(n *node, r *result) {
			s := n.unitSettings("kubelet.service")
			start := last(s["Service.ExecStart"])
			for _, v := range []string{"$KUBELET_KUBECONFIG_ARGS", "$KUBELET_CONFIG_ARGS", "$KUBELET_KUBEADM_ARGS", "$KUBELET_EXTRA_ARGS"} {
				if !strings.Contains(start, v) {
					r.fail("ExecStart does not use %s", v)
				}
			}
			environment := strings.Join(slices.Concat(s["Service.Environment"], s["Service.EnvironmentFile"]), "\n")
			for _, f := range []string{"/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"} {
				if !strings.Contains(environment, f) {
					r.fail("the environment does not name %s", f)
				}
			}
		},
	},
	{
		ID: "kubernetes.kubelet-cgroup-driver", Title: "Nothing gives the kubelet another cgroup driver than systemd", Severity: Required,
		Why: "kubelet and containerd must use one cgroup driver; kubeadm's default is systemd.",
		How: "The unit, its drop-ins and /etc/default/kubelet or /etc/sysconfig/kubelet have no --cgroup-driver=cgroupfs.",
		run: func(n *node, r *result) {
			s := n.unitSettings("kubelet.service")
			text := strings.Join(slices.Concat(s["Service.ExecStart"], s["Service.Environment"]), "\n") +
				strings.Join(configLines(n.text("/etc/default/kubelet")+"\n"+n.text("/etc/sysconfig/kubelet")), "\n")
			if strings.Contains(text, "cgroup-driver=cgroupfs") || strings.Contains(text, "cgroup-driver cgroupfs") {
				r.fail("the kubelet is started with --cgroup-driver=cgroupfs")
			}
		},
	},
	{
		ID: "kubernetes.cni-plugins", Title: "The CNI plugins are in /opt/cni/bin", Severity: Required,
		Why: "Network add-ons call the reference plugins and bring only their own.",
		How: "bandwidth, bridge, host-device, host-local, ipvlan, loopback, macvlan, portmap, ptp, static, tuning and vlan are executable files.",
		run: func(n *node, r *result) {
			for _, name := range []string{"bandwidth", "bridge", "host-device", "host-local", "ipvlan", "loopback", "macvlan", "portmap", "ptp", "static", "tuning", "vlan"} {
				info, err := n.tree.Stat(path.Join(cniDir, name))
				if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 || info.Size() == 0 {
					r.fail("%s is no executable file", path.Join(cniDir, name))
				}
			}
		},
	},
	{
		ID: "kubernetes.no-cni-config", Title: "No network is configured yet", Severity: Required,
		Why: "The kubelet takes the first file in /etc/cni/net.d; one that the image brings wins over the cluster's own network.",
		How: "/etc/cni/net.d is empty or missing.",
		run: func(n *node, r *result) {
			for _, name := range n.list("/etc/cni/net.d") {
				if !strings.HasPrefix(name, ".") {
					r.fail("/etc/cni/net.d/%s exists", name)
				}
			}
		},
	},
	{
		ID: "kubernetes.no-cluster", Title: "The node belongs to no cluster yet", Severity: Required,
		Why: "kubeadm's preflight fails on files of a cluster, and a machine taken from one carries its keys.",
		How: "There are no kubeconfigs, keys or manifests in /etc/kubernetes, no kubelet or etcd state in /var/lib, no bootstrap data in /run.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/etc/kubernetes/*.conf", "/etc/kubernetes/pki/*", "/etc/kubernetes/manifests/*",
				"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env", "/var/lib/kubelet/pki/*", "/var/lib/etcd/*",
				"/run/kubeadm/*", "/run/cluster-api/*", "/etc/kubeadm.yml")
		},
	},
	{
		ID: "kubernetes.crictl", Title: "crictl talks to containerd", Severity: Required,
		Why: "kubeadm and people who look for a fault call crictl without arguments.",
		How: "crictl is on PATH and /etc/crictl.yaml names containerd's socket.",
		run: func(n *node, r *result) {
			if n.which("crictl") == "" {
				r.fail("there is no program crictl on PATH")
			}
			content, err := n.tree.ReadFile("/etc/crictl.yaml")
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, line := range configLines(string(content)) {
				if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "runtime-endpoint" {
					value = strings.Trim(strings.TrimSpace(value), `"'`)
					if value == "unix:///var/run/containerd/containerd.sock" || value == "unix:///run/containerd/containerd.sock" {
						return
					}
				}
			}
			r.fail("/etc/crictl.yaml does not name unix:///var/run/containerd/containerd.sock")
		},
	},
	{
		ID: "kubernetes.file-modes", Title: "The node's programs and configuration belong to root and nobody else writes them", Severity: Required,
		Why: "Who can write the kubelet's binary or unit is root on the node.",
		How: "Owner, group and write permissions of the programs, of containerd's and crictl's configuration, of the units, of /etc/kubernetes and /opt/cni/bin.",
		run: checkModes,
	},
}

const cniDir = "/opt/cni/bin"

func checkModes(n *node, r *result) {
	files := []string{"/etc/containerd/config.toml", "/etc/crictl.yaml", "/etc/kubernetes-version", "/etc/kubernetes", "/etc/kubernetes/manifests", "/opt/cni", cniDir}
	for _, name := range []string{"kubelet", "kubeadm", "kubectl", "containerd", "ctr", "containerd-shim-runc-v2", "runc", "crictl"} {
		files = append(files, n.which(name))
	}
	for _, name := range n.list(cniDir) {
		files = append(files, path.Join(cniDir, name))
	}
	for _, unit := range []string{"kubelet.service", "containerd.service"} {
		files = append(files, n.unitFile(unit))
		for _, dir := range unitDirs {
			for _, name := range n.list(path.Join(dir, unit+".d")) {
				files = append(files, path.Join(dir, unit+".d", name))
			}
		}
	}
	for _, name := range files {
		info, err := n.tree.Stat(name)
		if name == "" || err != nil {
			continue // whether it must exist is another check's matter
		}
		if uid, gid, err := n.tree.Owner(name); err != nil || uid != 0 || gid != 0 {
			r.fail("%s belongs to %d:%d", name, uid, gid)
		}
		if info.Mode().Perm()&0o022 != 0 {
			r.fail("%s has the mode %04o", name, info.Mode().Perm())
		}
	}
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
