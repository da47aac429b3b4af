package contract

import (
	"path"
	"slices"
	"strings"
)

// unitDirs are systemd's, the first one winning (systemd.unit(5)).
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}

// unitFile returns the path of a unit's file, links followed, or "".
func (n *node) unitFile(unit string) string {
	for _, dir := range unitDirs {
		file := path.Join(dir, unit)
		if _, err := n.tree.Lstat(file); err == nil {
			if resolved, err := n.tree.Resolve(file); err == nil {
				return resolved
			}
			return ""
		}
	}
	return ""
}

// masked reports whether a unit is a link to /dev/null, or empty, in /etc or /run.
func (n *node) masked(unit string) bool {
	for _, dir := range unitDirs[:2] {
		file := path.Join(dir, unit)
		info, err := n.tree.Lstat(file)
		if err != nil {
			continue
		}
		if info.Mode().IsRegular() && info.Size() == 0 {
			return true
		}
		if target, err := n.tree.ReadLink(file); err == nil && path.Clean(target) == "/dev/null" {
			return true
		}
	}
	return false
}

// enabled reports whether something that is started at boot wants the unit.
// Links in *.wants and *.requires count by their names, as for systemd.
func (n *node) enabled(unit string) bool {
	if n.masked(unit) || n.unitFile(unit) == "" {
		return false
	}
	for _, dir := range unitDirs {
		for _, sub := range n.list(dir) {
			if (strings.HasSuffix(sub, ".wants") || strings.HasSuffix(sub, ".requires")) &&
				slices.Contains(n.list(path.Join(dir, sub)), unit) {
				return true
			}
		}
	}
	return false
}

// unitSettings reads a unit with its drop-ins: the values of every key,
// "Section.Key", an empty assignment forgetting the earlier ones.
func (n *node) unitSettings(unit string) map[string][]string {
	texts := []string{n.text(n.unitFile(unit))}
	files := map[string]string{}
	for _, dir := range slices.Backward(unitDirs) {
		for _, name := range n.list(path.Join(dir, unit+".d")) {
			if strings.HasSuffix(name, ".conf") {
				files[name] = path.Join(dir, unit+".d", name)
			}
		}
	}
	for _, name := range sortedKeys(files) {
		texts = append(texts, n.text(files[name]))
	}
	out := map[string][]string{}
	for _, text := range texts {
		section := ""
		for _, line := range configLines(strings.ReplaceAll(text, "\\\n", " ")) {
			if strings.HasPrefix(line, "[") {
				section = strings.Trim(line, "[]")
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			key, value = section+"."+strings.TrimSpace(key), strings.TrimSpace(value)
			if value == "" {
				out[key] = nil
			} else {
				out[key] = append(out[key], value)
			}
		}
	}
	return out
}

// service is a unit, or one of several, that has to run or must not.
type service struct {
	name            string   // in the check's ID
	units           []string // one of them
	enabled         bool
	severity        Severity
	families        []Family
	infrastructures []string
	why             string
}

var services = []service{
	{"containerd", []string{"containerd.service"}, true, Required, nil, nil, "The kubelet has nothing to run pods with."},
	{"kubelet", []string{"kubelet.service"}, true, Required, nil, nil, "kubeadm starts it, and after a reboot nobody else does."},
	{"auditd", []string{"auditd.service"}, true, Required, nil, nil, "Clusters' auditors expect the kernel's audit log."},
	{"time", []string{"chrony.service", "chronyd.service", "systemd-timesyncd.service"}, true, Required, nil, nil, "Certificates are not yet valid, and etcd's members disagree, on nodes whose clocks are off."},
	{"cloud-init-local", []string{"cloud-init-local.service"}, true, Required, nil, nil, "It brings up the network that the infrastructure described."},
	{"cloud-init", []string{"cloud-init.service", "cloud-init-network.service"}, true, Required, nil, nil, "It fetches the bootstrap data. cloud-init 24.3 renamed the unit."},
	{"cloud-config", []string{"cloud-config.service"}, true, Required, nil, nil, "It runs the bootstrap data's runcmd."},
	{"cloud-final", []string{"cloud-final.service"}, true, Required, nil, nil, "It runs kubeadm."},
	{"docker", []string{"docker.service", "docker.socket"}, false, Required, nil, nil, "A second container runtime rewrites iptables' FORWARD policy."},
	{"conntrackd", []string{"conntrackd.service"}, false, Required, nil, nil, "It competes with kube-proxy for the conntrack table."},
	{"apt-daily", []string{"apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"}, false, Required, []Family{Debian}, nil, "Unattended upgrades hold dpkg's lock during bootstrap and change nodes behind the cluster's back."},
	{"dnf-automatic", []string{"dnf-automatic.timer", "dnf-automatic-install.timer", "yum-cron.service"}, false, Required, []Family{RedHat}, nil, "Unattended upgrades change nodes behind the cluster's back."},
	{"firewall", []string{"firewalld.service", "ufw.service"}, false, Required, nil, nil, "Its rules close the ports of the API server, the kubelet and the CNI."},
	{"ntp", []string{"ntp.service", "ntpd.service", "ntpsec.service"}, false, Required, nil, nil, "Two time services fight over the clock."},
	{"update-engine", []string{"update-engine.service", "locksmithd.service"}, false, Required, []Family{Flatcar}, nil, "Flatcar updates itself and reboots unless these are masked."},
	{"open-vm-tools", []string{"open-vm-tools.service", "vmtoolsd.service"}, true, Required, nil, []string{"vsphere"}, "CAPV waits for the address that VMware Tools report."},
	{"iscsid", []string{"iscsid.service", "iscsid.socket"}, true, Required, nil, []string{"nutanix"}, "Nutanix volumes are attached over iSCSI."},
	{"qemu-guest-agent", []string{"qemu-guest-agent.service"}, true, Recommended, nil, []string{"proxmox"}, "CAPMOX asks the agent whether cloud-init has finished."},
}

// udevStarted are units that a udev rule starts where their device exists.
var udevStarted = map[string]bool{"qemu-guest-agent.service": true}

// serviceChecks has one check for each service.
func serviceChecks() []Check {
	var out []Check
	for _, s := range services {
		c := Check{
			ID: "service." + s.name, Severity: s.severity, Families: s.families, Infrastructures: s.infrastructures, Why: s.why,
			How: "The unit's file, and the links in *.wants and *.requires, below systemd's directories in /etc and /usr/lib; a mask counts as disabled.",
		}
		names := strings.Join(s.units, " or ")
		if s.enabled {
			c.Title = names + " is enabled"
			c.run = func(n *node, r *result) {
				if !slices.ContainsFunc(s.units, func(u string) bool { return n.enabled(u) || udevStarted[u] && n.unitFile(u) != "" && !n.masked(u) }) {
					r.fail("%s is not enabled", names)
				}
			}
		} else {
			c.Title = names + " is not enabled"
			c.run = func(n *node, r *result) {
				for _, u := range s.units {
					if n.enabled(u) {
						r.fail("%s is enabled", u)
					}
				}
			}
		}
		out = append(out, c)
	}
	return out
}
