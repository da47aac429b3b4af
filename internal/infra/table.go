package infra

import (
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/node"
)

// serial puts the kernel's messages on the screen and, last and so as
// /dev/console, on the serial port, which is what a cloud shows of a machine.
var serial = []string{"console=tty0", "console=ttyS0,115200n8"}

// What the rows below have in common.
var (
	virtioBlock = Hardware{VirtioBlock, VirtioNet}
	virtioSCSI  = Hardware{VirtioSCSI, VirtioNet}
	guestAgent  = []distro.Software{distro.QEMUGuestAgent}
)

var all = []Infrastructure{
	{Name: "qemu", Format: "qcow2", KernelArguments: serial, Hardware: virtioBlock},
	{
		Name: "vsphere", Format: "ova", Hardware: Hardware{PVSCSI, VMXNET3},
		// A virtual machine has a screen and seldom a serial port.
		KernelArguments: []string{"console=ttyS0,115200n8", "console=tty0"},
		Software:        []distro.Software{distro.VMwareTools},
	},
	{
		Name: "aws", Format: "raw", Hardware: Hardware{NVMe, VirtioNet},
		// EBS volumes are NVMe devices whose I/O may wait, but never fails: the
		// driver's own timeout would (Amazon EBS User Guide, "Amazon EBS volumes
		// and NVMe", I/O operation timeout).
		KernelArguments: append([]string{"nvme_core.io_timeout=4294967295"}, serial...),
		Software:        []distro.Software{distro.AWSCLI, distro.EC2Tools},
		// CAPA's boothook writes the bootstrap data, then restarts the unit
		// cloud-init from within, and that reads it (secret_fetch_script.go).
		stages: node.Config{
			Links: []node.Link{{Path: "/etc/systemd/system/cloud-init.service", Target: "/usr/lib/systemd/system/cloud-init-network.service"}},
			Units: node.Units{Disable: []string{"cloud-init-main.service"}},
		},
	},
	{
		Name: "azure", Format: "vhd", Hardware: virtioSCSI,
		// Early messages, too, and no swap on the OS disk (Azure, "Prepare Linux
		// for imaging").
		KernelArguments: append([]string{"earlyprintk=ttyS0"}, serial...),
		Software:        []distro.Software{distro.AzureAgent, distro.HyperVDaemons, distro.NFS},
		units:           node.Units{Enable: []string{"azure-wireserver.service"}},
		// chrony.conf(5): of makestep the last one counts, and the
		// distribution's stands behind what conf.d says.
		cuts: map[string][]node.Cut{"debian": {{Path: "/etc/chrony/chrony.conf", Lines: `^\s*makestep\s`}}},
	},
	{Name: "openstack", Format: "qcow2", KernelArguments: serial, Hardware: virtioBlock, Software: guestAgent},
	{Name: "kubevirt", Format: "qcow2", KernelArguments: serial, Hardware: virtioBlock, Software: guestAgent},
	{Name: "proxmox", Format: "qcow2", KernelArguments: serial, Hardware: virtioSCSI, Software: guestAgent},
	{
		Name: "nutanix", Format: "qcow2", KernelArguments: serial, Hardware: virtioSCSI,
		Software: []distro.Software{distro.ISCSI, distro.NFS, distro.LVM, distro.XFS, distro.IPVS},
		modules:  []string{"ip_vs"},
		units:    node.Units{Enable: []string{"iscsid.service"}},
	},
	{
		Name: "gcp", Format: "gce", Hardware: virtioSCSI,
		// What Compute Engine's serial console runs at (Compute Engine, "Requirements
		// to build custom images").
		KernelArguments: []string{"console=tty0", "console=ttyS0,38400n8d"},
		// Its clocks smear leap seconds: no other server may be mixed in.
		TimeServers: []string{"metadata.google.internal"},
	},
}
