package vmtest

import (
	"fmt"

	"nodesmith.dev/nodesmith/internal/infra"
)

// diskControllers are QEMU's arguments for a controller with the drives disk,
// from which the machine boots, and seed. An empty controller is virtio's.
//
// werror=report: a full host gives the guest an I/O error, not a pause; NVMe
// knows no other way.
var diskControllers = map[infra.DiskController]struct{ disk, seed []string }{
	infra.VirtioBlock: {
		disk: []string{"-device", "virtio-blk-pci,drive=disk,bootindex=0,werror=report"},
		seed: []string{"-device", "virtio-blk-pci,drive=seed"},
	},
	infra.VirtioSCSI: {
		disk: []string{"-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=disk,bootindex=0,werror=report"},
		seed: []string{"-device", "scsi-hd,bus=scsi.0,drive=seed"},
	},
	infra.PVSCSI: {
		disk: []string{"-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=disk,bootindex=0,werror=report"},
		seed: []string{"-device", "scsi-hd,bus=scsi.0,drive=seed"},
	},
	infra.NVMe: {
		disk: []string{"-device", "nvme,drive=disk,serial=disk,bootindex=0"},
		seed: []string{"-device", "nvme,drive=seed,serial=seed"},
	},
}

// networkCards are QEMU's names of network cards.
var networkCards = map[infra.NetworkCard]string{infra.VirtioNet: "virtio-net-pci", infra.VMXNET3: "vmxnet3"}

// bootable replaces a disk controller that the firmware has no driver for: the
// OVMF of distributions is built without pvscsi's (Debian 12 and 13), SeaBIOS
// has them all.
func bootable(firmware Firmware, h infra.Hardware) infra.Hardware {
	if firmware != BIOS && h.Disk == infra.PVSCSI {
		h.Disk = infra.VirtioSCSI
	}
	return h
}

// devices returns QEMU's arguments for the machine's disk, its network card
// and, if it has one, its seed.
func (o Options) devices() ([]string, error) {
	controller, ok := diskControllers[o.Hardware.Disk]
	card, known := networkCards[o.Hardware.Network]
	if !ok || !known {
		return nil, fmt.Errorf("no machine with the disk controller %q and the network card %q can be imitated", o.Hardware.Disk, o.Hardware.Network)
	}
	// QEMU's user network leads nowhere with restrict=on but to what is forwarded.
	// A command, not tcp:, which would be one connection for the machine's life.
	network := "user,id=net,restrict=on"
	for _, at := range sortedKeys(o.Servers) {
		network += ",guestfwd=tcp:" + at + "-cmd:socat STDIO TCP:" + o.Servers[at]
	}
	args := append([]string{
		"-netdev", network, "-device", card + ",netdev=net,romfile=,mac=" + mac,
	}, controller.disk...)
	if o.Seed != nil {
		args = append(args, controller.seed...)
	}
	return args, nil
}
