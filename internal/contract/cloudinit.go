package contract

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// cloudConfig is cloud-init's configuration: cloud.cfg with the files of
// cloud.cfg.d laid over it by name, as cloud-init merges them.
func (n *node) cloudConfig() (map[string]any, error) {
	merged := map[string]any{}
	names := []string{"/etc/cloud/cloud.cfg"}
	for _, f := range n.list("/etc/cloud/cloud.cfg.d") {
		if strings.HasSuffix(f, ".cfg") {
			names = append(names, path.Join("/etc/cloud/cloud.cfg.d", f))
		}
	}
	for i, name := range names {
		content, err := n.tree.ReadFile(name)
		if err != nil {
			if i == 0 {
				return nil, err
			}
			continue
		}
		var one map[string]any
		if err := yaml.Unmarshal(content, &one); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merge(merged, one)
	}
	return merged, nil
}

// merge lays over onto base: tables are merged, everything else is replaced.
func merge(base, over map[string]any) {
	for k, v := range over {
		lower, ok1 := base[k].(map[string]any)
		upper, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			merge(lower, upper)
		} else {
			base[k] = v
		}
	}
}

// withCloudConfig makes a check of what has to be in the configuration.
func withCloudConfig(check func(*node, map[string]any, *result)) func(*node, *result) {
	return func(n *node, r *result) {
		c, err := n.cloudConfig()
		if err != nil {
			r.fail("%v", err)
			return
		}
		check(n, c, r)
	}
}

// sources are the data sources that serve an infrastructure's nodes.
var sources = map[string][]string{
	"qemu":      {"NoCloud", "ConfigDrive"},
	"vsphere":   {"VMware", "VMwareGuestInfo"},
	"aws":       {"Ec2", "Ec2Kubernetes"},
	"azure":     {"Azure"},
	"openstack": {"OpenStack", "ConfigDrive"},
	"kubevirt":  {"NoCloud", "ConfigDrive"},
	"proxmox":   {"NoCloud", "ConfigDrive"},
	"nutanix":   {"ConfigDrive"},
	"gcp":       {"GCE"},
}

// cloudInitChecks look at what runs the bootstrap data.
var cloudInitChecks = []Check{
	{
		ID: "cloud-init.installed", Title: "cloud-init is installed and new enough", Severity: Required,
		Why: "Cluster API's bootstrap data is cloud-config; VMware's data source came with 21.3, IMDSv2 with 20.1.",
		How: "The program cloud-init is on PATH; dpkg's database, where there is one, says 21.3 or later.",
		run: checkCloudInitInstalled,
	},
	{
		ID: "cloud-init.not-disabled", Title: "cloud-init is not disabled", Severity: Required,
		Why: "A node whose cloud-init does not run never joins.",
		How: "There is no /etc/cloud/cloud-init.disabled, no cloud-init=disabled on the kernel's command line, no mask on its target or services.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/etc/cloud/cloud-init.disabled", "/run/cloud-init/disabled")
			if entries, err := n.entries(); err == nil && slices.Contains(entries[0].arguments, "cloud-init=disabled") {
				r.fail("the kernel's command line has cloud-init=disabled")
			}
			for _, unit := range []string{"cloud-init.target", "cloud-init-main.service"} {
				if n.masked(unit) {
					r.fail("%s is masked", unit)
				}
			}
		},
	},
	{
		ID: "cloud-init.datasource", Title: "cloud-init looks for the infrastructure's data source", Severity: Required, Infrastructures: Infrastructures,
		Why: "A list without the infrastructure's own source makes cloud-init come up with none, and the node without bootstrap data.",
		How: "datasource_list of the merged configuration is unset or has it, and /etc/cloud/ds-identify.cfg does not pin another.",
		run: withCloudConfig(checkDatasource),
	},
	{
		ID: "cloud-init.no-ds-identify", Title: "No single data source is pinned", Severity: Required,
		Why: "Installers pin their own (NoCloud, None) and leave the file behind.",
		How: "/etc/cloud/ds-identify.cfg does not exist, or does not disable cloud-init or set a data source.",
		run: func(n *node, r *result) {
			for _, line := range configLines(n.text("/etc/cloud/ds-identify.cfg")) {
				if strings.HasPrefix(line, "policy: disabled") || strings.HasPrefix(line, "datasource:") {
					r.fail("/etc/cloud/ds-identify.cfg has %q", line)
				}
			}
		},
	},
	{
		ID: "cloud-init.network", Title: "cloud-init may set up the network", Severity: Required,
		Why: "CAPV and others describe the network in metadata; with the network disabled static addresses are lost.",
		How: "The merged configuration has no network: {config: disabled}; the kernel's command line has no network-config=disabled.",
		run: withCloudConfig(func(n *node, c map[string]any, r *result) {
			if network, ok := c["network"].(map[string]any); ok && network["config"] == "disabled" {
				r.fail("network.config is disabled")
			}
			if entries, err := n.entries(); err == nil && slices.Contains(entries[0].arguments, "network-config=disabled") {
				r.fail("the kernel's command line has network-config=disabled")
			}
		}),
	},
	{
		ID: "cloud-init.grow", Title: "The root file system grows at first boot", Severity: Required,
		Why: "Machines have larger disks than the image; without growth the kubelet evicts pods at once.",
		How: "cloud_init_modules (or cloud_config_modules) has growpart and resizefs; growpart's mode is not off; resize_rootfs is not false; /etc/growroot-disabled does not exist.",
		run: withCloudConfig(checkGrow),
	},
	{
		ID: "cloud-init.modules", Title: "cloud-init runs what bootstrap data has in it", Severity: Required,
		Why: "Cluster API's bootstrap data is write_files, runcmd, bootcmd, users, ntp, mounts and disk_setup.",
		How: "The modules write-files, bootcmd, users-groups, runcmd and scripts-user are in the lists of the merged configuration.",
		run: withCloudConfig(func(_ *node, c map[string]any, r *result) {
			modules := cloudModules(c)
			for _, m := range []string{"write-files", "bootcmd", "users-groups", "runcmd", "scripts-user", "ssh", "ntp", "mounts", "disk-setup", "set-hostname"} {
				if !modules[m] {
					r.fail("the module %s does not run", m)
				}
			}
		}),
	},
	{
		ID: "cloud-init.after-containerd", Title: "Bootstrap data runs when containerd is up", Severity: Required,
		Why: "kubeadm's preflight fails when containerd's socket does not answer yet.",
		How: "cloud-config.service and cloud-final.service with their drop-ins have After= and Wants= (or Requires=) containerd.service.",
		run: func(n *node, r *result) {
			for _, unit := range []string{"cloud-config.service", "cloud-final.service"} {
				s := n.unitSettings(unit)
				after := strings.Fields(strings.Join(s["Unit.After"], " "))
				wants := strings.Fields(strings.Join(slices.Concat(s["Unit.Wants"], s["Unit.Requires"]), " "))
				if !slices.Contains(after, "containerd.service") || !slices.Contains(wants, "containerd.service") {
					r.fail("%s does not wait for containerd.service", unit)
				}
			}
		},
	},
	{
		ID: "cloud-init.no-instance", Title: "cloud-init has not run yet", Severity: Required,
		Why: "What cloud-init did once per instance it does not do again for an instance of the same identifier.",
		How: "/var/lib/cloud has no instance, instances, data or sem with files in them.",
		run: func(n *node, r *result) {
			for _, f := range append(n.below("/var/lib/cloud/instances", "/var/lib/cloud/data", "/var/lib/cloud/sem"), n.tree.Glob("/var/lib/cloud/instance")...) {
				r.fail("%s exists", f)
			}
		},
	},
	{
		ID: "cloud-init.no-seed", Title: "No seed is in the image", Severity: Required,
		Why: "A NoCloud seed in the image wins over the infrastructure's bootstrap data, on every node.",
		How: "/var/lib/cloud/seed has no files, and no file system of the disk is called cidata.",
		run: func(n *node, r *result) {
			for _, f := range n.below("/var/lib/cloud/seed") {
				r.fail("%s exists", f)
			}
			for _, label := range []string{"cidata", "CIDATA", "config-2"} {
				if n.image.HasLabel(label) {
					r.fail("a file system of the disk is called %s", label)
				}
			}
		},
	},
	{
		ID: "cloud-init.no-installer-files", Title: "No installer's settings for cloud-init are left", Severity: Required,
		Why: "Ubuntu's installer disables cloud-init's network and pins the data source for its own machine.",
		How: "cloud.cfg.d has none of the files of subiquity, curtin and the installer.",
		run: func(n *node, r *result) {
			for _, f := range []string{"subiquity-disable-cloudinit-networking.cfg", "00-subiquity-*.cfg", "99-installer.cfg", "curtin-preserve-sources.cfg", "90-installer-network.cfg", "99-disable-network-config.cfg", "99-disable-networking-config.cfg"} {
				n.refuseFiles(r, path.Join("/etc/cloud/cloud.cfg.d", f))
			}
		},
	},
	{
		ID: "cloud-init.host-keys", Title: "Every node makes its own SSH host keys", Severity: Required,
		Why: "ssh_deletekeys: false keeps keys that were in the image.",
		How: "The merged configuration does not set ssh_deletekeys to false.",
		run: withCloudConfig(func(_ *node, c map[string]any, r *result) {
			if c["ssh_deletekeys"] == false {
				r.fail("ssh_deletekeys is false")
			}
		}),
	},
	{
		ID: "cloud-init.logging", Title: "cloud-init keeps its log", Severity: Recommended,
		Why: "/var/log/cloud-init-output.log is where kubeadm's failure stands.",
		How: "The merged configuration sets output to /var/log/cloud-init-output.log.",
		run: withCloudConfig(func(_ *node, c map[string]any, r *result) {
			if !strings.Contains(fmt.Sprint(c["output"]), "/var/log/cloud-init-output.log") {
				r.fail("output is %v", c["output"])
			}
		}),
	},
	{
		ID: "cloud-init.tolerant", Title: "A part of the user data that fails does not stop the others", Severity: Recommended, Families: []Family{Debian},
		Why: "Debian and Ubuntu set ERROR_ON_USER_DATA_FAILURE; Cluster API's secret user data is fetched in a later part.",
		How: "cloudinit/features.py has ERROR_ON_USER_DATA_FAILURE = False, or feature_overrides.py has it and features.py reads that (cloud-init before 23.3).",
		run: checkCloudInitTolerant,
	},
}

func checkCloudInitTolerant(n *node, r *result) {
	const dir = "/usr/lib/python3/dist-packages/cloudinit/"
	features := n.text(dir + "features.py")
	files := []string{features}
	if strings.Contains(features, "from cloudinit.feature_overrides import") {
		files = append(files, n.text(dir+"feature_overrides.py"))
	}
	for _, file := range files {
		for _, line := range configLines(file) {
			if strings.ReplaceAll(line, " ", "") == "ERROR_ON_USER_DATA_FAILURE=False" {
				return
			}
		}
	}
	r.fail("ERROR_ON_USER_DATA_FAILURE is not False")
}

func checkCloudInitInstalled(n *node, r *result) {
	if n.which("cloud-init") == "" {
		r.fail("there is no program cloud-init on PATH")
		return
	}
	packages, err := n.packages()
	if err != nil {
		return // no dpkg; packages.database says so where there should be
	}
	p, ok := packages["cloud-init"]
	if !ok || p.status != installed {
		return
	}
	var major, minor int
	if _, err := fmt.Sscanf(p.version, "%d.%d", &major, &minor); err == nil && (major < 21 || major == 21 && minor < 3) {
		r.fail("cloud-init is %s", p.version)
	}
	r.note("cloud-init %s", p.version)
}

func checkDatasource(n *node, c map[string]any, r *result) {
	want := sources[n.options.Infrastructure]
	names, set := c["datasource_list"].([]any)
	if !set {
		return
	}
	for _, name := range names {
		if s, ok := name.(string); ok && slices.Contains(want, s) {
			return
		}
	}
	r.fail("datasource_list is %v and has none of %v", names, want)
}

func checkGrow(n *node, c map[string]any, r *result) {
	modules := cloudModules(c)
	for _, m := range []string{"growpart", "resizefs"} {
		if !modules[m] {
			r.fail("the module %s does not run", m)
		}
	}
	if growpart, ok := c["growpart"].(map[string]any); ok && (growpart["mode"] == "off" || growpart["mode"] == false) {
		r.fail("growpart's mode is off")
	}
	if c["resize_rootfs"] == false || c["resize_rootfs"] == "false" {
		r.fail("resize_rootfs is false")
	}
	n.refuseFiles(r, "/etc/growroot-disabled")
}

// cloudModules has the modules that run in any of the three stages, spelled
// with hyphens.
func cloudModules(c map[string]any) map[string]bool {
	out := map[string]bool{}
	for _, stage := range []string{"cloud_init_modules", "cloud_config_modules", "cloud_final_modules"} {
		for _, m := range list(c[stage]) {
			if l := list(m); len(l) > 0 { // [module, frequency]
				m = l[0]
			}
			if name, ok := m.(string); ok {
				out[strings.ReplaceAll(name, "_", "-")] = true
			}
		}
	}
	return out
}
