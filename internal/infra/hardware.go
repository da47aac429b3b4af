package infra

// Hardware is how an infrastructure's machines are attached to their disk and
// to their network, as far as other machines can imitate it.
type Hardware struct {
	Disk    DiskController
	Network NetworkCard
}

// DiskController is what the guest's driver sees before its disk.
type DiskController string

// NetworkCard is what the guest's driver sees of its network.
type NetworkCard string

// The devices, by the names of their drivers in Linux.
const (
	VirtioBlock DiskController = "virtio_blk"
	VirtioSCSI  DiskController = "virtio_scsi"
	PVSCSI      DiskController = "vmw_pvscsi"
	NVMe        DiskController = "nvme"

	VirtioNet NetworkCard = "virtio_net"
	VMXNET3   NetworkCard = "vmxnet3"
)
