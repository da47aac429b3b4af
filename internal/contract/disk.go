package contract

import (
	"bytes"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/imagefs/ext4"
)

var amd64Only = []string{"amd64"}

// diskChecks look at partitions and file systems.
var diskChecks = []Check{
	{
		ID: "disk.partition-table", Title: "The partition table is whole", Severity: Required, raw: true,
		Why: "Firmware, growpart and cloud importers read different copies of the table; one that is damaged boots here and not there.",
		How: "MBR or both copies of the GPT: signatures, checksums, partitions within the disk and not overlapping, both copies equal.",
		run: func(n *node, r *result) {
			switch {
			case n.openErr != nil:
				r.fail("%v", n.openErr)
			case n.image.Table.Damage != nil:
				r.fail("%v", n.image.Table.Damage)
			default:
				r.note("%s, %d partitions", strings.ToUpper(n.image.Table.Kind), len(n.image.Table.Partitions))
			}
		},
	},
	{
		ID: "disk.bios-boot", Title: "A BIOS finds a boot loader", Severity: Required, Firmware: bios, Architectures: amd64Only,
		Why: "Older vSphere templates, AWS instance types without UEFI and Azure generation 1 start the boot code of the first sector, which loads GRUB's core image from the BIOS boot partition.",
		How: "Sector 0 has boot code; with GPT there is a BIOS boot partition that is not empty, with MBR an active partition.",
		run: checkBIOSBoot,
	},
	{
		ID: "disk.esp", Title: "UEFI finds a boot loader", Severity: Required, Firmware: uefi,
		Why: "A cloned machine has no boot entries in its firmware's memory: UEFI starts what it finds under the removable media path.",
		How: "There is an EFI system partition with FAT, and \\EFI\\BOOT\\BOOTX64.EFI (BOOTAA64.EFI on arm64) is a PE program.",
		run: checkESP,
	},
	{
		ID: "disk.root-file-system", Title: "The root file system, and what fstab mounts on it, is whole and clean", Severity: Required,
		Why: "An image that was taken from a running machine needs its journal replayed or fsck run, on every node that is cloned from it.",
		How: "Superblock of the root file system and of each other ext4 of the disk that /etc/fstab mounts: state clean, no journal to replay, no recorded errors, no larger than its partition.",
		run: checkClean,
	},
	{
		ID: "disk.root-last", Title: "The root partition can grow", Severity: Required,
		Why: "Clones get larger disks than the template; growpart makes the root partition larger only when nothing follows it.",
		How: "No partition starts behind the one with the root file system.",
		run: func(n *node, r *result) {
			for _, p := range n.image.Table.Partitions {
				if p.Start > n.image.Root.Start {
					r.fail("partition %d lies behind the root partition %d", p.Number, n.image.Root.Number)
				}
			}
		},
	},
	{
		ID: "disk.no-lvm", Title: "There is no LVM", Severity: Required, raw: true,
		Why: "cloud-init's growpart and resizefs do not grow a root file system on a logical volume.",
		How: "No partition has LVM's type or signature.",
		run: func(n *node, r *result) { n.refuseContent(r, imagefs.LVM, "lvm", "LVM") },
	},
	{
		ID: "disk.no-swap-partition", Title: "There is no swap partition", Severity: Required, raw: true,
		Why: "systemd turns on swap partitions that it finds by their type, and the kubelet refuses to run with swap on.",
		How: "No partition has the type or the signature of swap.",
		run: func(n *node, r *result) { n.refuseContent(r, imagefs.Swap, "swap", "swap") },
	},
	{
		ID: "disk.fstab", Title: "fstab names the file systems that are there", Severity: Required,
		Why: "Device names differ between infrastructures (/dev/sda, /dev/vda, /dev/nvme0n1), and a file system that does not exist stops the boot.",
		How: "Every line of /etc/fstab that is needed to boot names a UUID, label or partition identifier of this disk, its kind of file system, and a directory that nothing else is mounted on.",
		run: checkFstab,
	},
}

func checkClean(n *node, r *result) {
	const unclean = "the file system on partition %d was not unmounted cleanly or has errors"
	if !n.image.System.Clean() {
		r.fail(unclean, n.image.Root.Number)
	}
	for _, m := range n.image.Mounted {
		if system, ok := m.Volume.(*ext4.FS); ok && !system.Clean() {
			r.fail(unclean, m.Partition.Number)
		}
	}
}

func checkBIOSBoot(n *node, r *result) {
	table := n.image.Table
	if bytes.Count(table.BootCode, []byte{0}) == len(table.BootCode) {
		r.fail("the first sector has no boot code")
	}
	for _, p := range table.Partitions {
		if table.Kind == imagefs.MBR && p.Active {
			return
		}
		if p.Type != imagefs.BIOSBoot {
			continue
		}
		start := make([]byte, 512)
		if _, err := n.image.Section(p).ReadAt(start, 0); err != nil {
			r.fail("read partition %d: %v", p.Number, err)
		} else if bytes.Count(start, []byte{0}) == len(start) {
			r.fail("the BIOS boot partition %d is empty", p.Number)
		}
		return
	}
	if table.Kind == imagefs.MBR {
		r.fail("no partition is active")
	} else {
		r.fail("there is no BIOS boot partition")
	}
}

// fallbackLoader is the removable media path of an architecture (UEFI 2.10,
// section 3.5.1.1).
func (n *node) fallbackLoader() string {
	if n.architecture == "arm64" {
		return "/EFI/BOOT/BOOTAA64.EFI"
	}
	return "/EFI/BOOT/BOOTX64.EFI"
}

func checkESP(n *node, r *result) {
	if n.image.ESP == nil {
		if n.image.ESPErr != nil {
			r.fail("EFI system partition: %v", n.image.ESPErr)
		} else {
			r.fail("there is no EFI system partition")
		}
		return
	}
	loader := n.fallbackLoader()
	content, err := n.image.ESP.Content(loader)
	if err != nil {
		r.fail("EFI system partition: %v", err)
		return
	}
	if _, err := readPE(content); err != nil {
		r.fail("%s: %v", loader, err)
	}
}

func (n *node) refuseContent(r *result, kind imagefs.Type, signature, name string) {
	if n.openErr != nil {
		r.fail("there are no partitions to look at: %v", n.openErr)
		return
	}
	for _, p := range n.image.Table.Partitions {
		if p.Type == kind || n.image.Content(p) == signature {
			r.fail("partition %d is %s", p.Number, name)
		}
	}
}

func checkFstab(n *node, r *result) {
	root := false
	for _, m := range n.tree.Mounts() {
		root = root || m.Point == "/"
		if m.Kind == "swap" { // node.no-swap's matter
			continue
		}
		optional := m.Has("nofail") || m.Has("noauto")
		identified := strings.Contains(m.Device, "=")
		switch {
		case identified && !n.image.Has(m) && !optional:
			r.fail("%s is to be mounted from %s, which is not on this disk", m.Point, m.Device)
		case !identified && strings.HasPrefix(m.Device, "/dev/") && !strings.HasPrefix(m.Device, "/dev/disk/by-") && !strings.HasPrefix(m.Device, "/dev/mapper/"):
			r.fail("%s is to be mounted from %s, a name that changes between machines", m.Point, m.Device)
		}
	}
	for _, err := range n.image.FstabErrs {
		r.fail("%v", err)
	}
	for _, m := range n.image.Mounted {
		r.note("%s is partition %d", m.Point, m.Partition.Number)
	}
	if !root {
		r.note("no line for /: the kernel's command line decides")
	}
}
