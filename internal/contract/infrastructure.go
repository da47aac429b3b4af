package contract

import (
	"path"
	"strings"
)

// drivers are the kernel modules without which an infrastructure's machines
// find no disk or no network. A module may be built in; of a list separated by
// bars one is enough.
var drivers = map[string][]string{
	"qemu":      {"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"},
	"vsphere":   {"vmw_pvscsi", "vmxnet3"},
	"aws":       {"nvme", "ena", "xen_blkfront"},
	"azure":     {"hv_vmbus", "hv_storvsc", "hv_netvsc"},
	"openstack": {"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"},
	"kubevirt":  {"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"},
	"proxmox":   {"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"},
	"nutanix":   {"virtio_pci", "virtio_scsi", "virtio_net"},
	"gcp":       {"virtio_pci", "virtio_scsi", "virtio_net"},
}

// diskDrivers are those of them that the initramfs needs to find the root.
var diskDrivers = map[string]bool{
	"virtio_pci": true, "virtio_blk": true, "virtio_scsi": true, "vmw_pvscsi": true,
	"nvme": true, "xen_blkfront": true, "hv_vmbus": true, "hv_storvsc": true,
}

// infrastructureChecks are about one infrastructure each, or a few.
var infrastructureChecks = []Check{
	{
		ID: "drivers.kernel", Title: "The kernel has the infrastructure's drivers", Severity: Required, Infrastructures: Infrastructures,
		Why: "A kernel for one cloud may lack the disk or network driver of another.",
		How: "modules.dep or modules.builtin of the kernel in the boot menu.",
		run: func(n *node, r *result) {
			release, err := n.kernelRelease()
			if err != nil {
				r.fail("%v", err)
				return
			}
			have := n.modules(release)
			for _, m := range drivers[n.options.Infrastructure] {
				if _, ok := have[m]; !ok {
					r.fail("kernel %s has no module %s", release, m)
				}
			}
		},
	},
	{
		ID: "drivers.initramfs", Title: "The initramfs has the infrastructure's disk drivers", Severity: Required, Infrastructures: Infrastructures,
		Why: "The initramfs loads the driver of the disk that holds the root file system; one made for the build's machine has only that machine's.",
		How: "The names in the initramfs of the boot menu, unpacked in memory, and modules.builtin.",
		run: func(n *node, r *result) {
			release, err := n.kernelRelease()
			if err != nil {
				r.fail("%v", err)
				return
			}
			have := n.modules(release)
			inside, err := n.initramfsModules()
			if isMissing(err) {
				return // boot.kernel says so
			}
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, m := range drivers[n.options.Infrastructure] {
				file, known := have[m]
				builtin := known && file == ""
				if diskDrivers[m] && !builtin && !inside[m] {
					r.fail("it has no %s", m)
				}
			}
		},
	},
	{
		ID: "vsphere.tools", Title: "VMware Tools are installed", Severity: Required, Infrastructures: []string{"vsphere"},
		Why: "CAPV hands over bootstrap data through guestinfo, which the data source reads with vmware-rpctool, and waits for the address that the tools report.",
		How: "vmtoolsd and vmware-rpctool are on PATH.",
		run: func(n *node, r *result) { n.needPrograms(r, "vmtoolsd", "vmware-rpctool") },
	},
	{
		ID: "vsphere.exclude-nics", Title: "VMware Tools do not report pods' interfaces", Severity: Recommended, Infrastructures: []string{"vsphere"},
		Why: "CAPV takes the addresses that the tools report for the node's own.",
		How: "/etc/vmware-tools/tools.conf has exclude-nics in [guestinfo].",
		run: func(n *node, r *result) {
			if !strings.Contains(strings.Join(configLines(n.text("/etc/vmware-tools/tools.conf")), "\n"), "exclude-nics") {
				r.fail("/etc/vmware-tools/tools.conf has no exclude-nics")
			}
		},
	},
	{
		ID: "aws.cli", Title: "The AWS CLI is on PATH", Severity: Recommended, Infrastructures: []string{"aws"},
		Why: "CAPA's bootstrap data fetches the real data from Secrets Manager with it, unless insecureSkipSecretsManager is set.",
		How: "The program aws is on PATH.",
		run: func(n *node, r *result) { n.needPrograms(r, "aws") },
	},
	{
		ID: "azure.agent", Title: "The machine reports to Azure", Severity: Required, Infrastructures: []string{"azure"},
		Why: "Azure deletes or restarts machines that never report that they are provisioned.",
		How: "waagent is on PATH, or cloud-init's data source Azure is there, which reports too.",
		run: func(n *node, r *result) {
			if n.which("waagent") == "" && len(n.tree.Glob("/usr/lib/python3*/*-packages/cloudinit/sources/DataSourceAzure.py")) == 0 {
				r.fail("there is neither waagent nor cloud-init's data source Azure")
			}
		},
	},
	{
		ID: "azure.no-resource-swap", Title: "The agent makes no swap file", Severity: Required, Infrastructures: []string{"azure"},
		Why: "waagent can turn on swap on the resource disk; the kubelet refuses it.",
		How: "/etc/waagent.conf does not have ResourceDisk.EnableSwap=y.",
		run: func(n *node, r *result) {
			if v := shellVariables(n.text("/etc/waagent.conf"))["ResourceDisk.EnableSwap"]; v == "y" {
				r.fail("ResourceDisk.EnableSwap is y")
			}
		},
	},
	{
		ID: "azure.vnet", Title: "cloud-init leaves secondary addresses to the network add-on", Severity: Recommended, Infrastructures: []string{"azure"},
		Why: "Azure's metadata lists the addresses that are meant for pods.",
		How: "datasource.Azure.apply_network_config is false in the merged configuration.",
		run: withCloudConfig(func(_ *node, c map[string]any, r *result) {
			if at(c, "datasource", "Azure", "apply_network_config") != false {
				r.fail("datasource.Azure.apply_network_config is not false")
			}
		}),
	},
	{
		ID: "azure.wireserver", Title: "Pods cannot reach the wire server", Severity: Recommended, Infrastructures: []string{"azure"},
		Why: "CVE-2021-27075: a pod that reaches 168.63.129.16 reads the machine's secrets.",
		How: "Rules in /etc/iptables or /etc/nftables* name 168.63.129.16.",
		run: func(n *node, r *result) {
			for _, f := range append(n.below("/etc/iptables", "/etc/nftables.d"), "/etc/nftables.conf", "/etc/sysconfig/iptables") {
				if strings.Contains(n.text(f), "168.63.129.16") {
					return
				}
			}
			r.fail("no rule names 168.63.129.16")
		},
	},
	{
		ID: "nutanix.modules", Title: "ip_vs is loaded at boot", Severity: Recommended, Infrastructures: []string{"nutanix"},
		Why: "CAPX's default templates run kube-vip, which balances with IPVS.",
		How: "modules-load.d names ip_vs.",
		run: func(n *node, r *result) {
			for _, m := range n.modulesLoaded() {
				if m == "ip_vs" {
					return
				}
			}
			r.fail("ip_vs is not in modules-load.d")
		},
	},
}

func (n *node) needPrograms(r *result, names ...string) {
	for _, name := range names {
		if n.which(name) == "" {
			r.fail("there is no program %s on PATH", path.Base(name))
		}
	}
}
