package pipeline

import (
	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// diskConfig returns what the spec says of the disk, with identifiers from
// seed; the rest is for the graph to fill in. A size is rounded up to a multiple
// of unit, that of the format which the infrastructure imports: done later, it
// would leave the backup of the partition table in the disk's middle. Where the
// content decides the size is a whole number of GiB anyway.
func diskConfig(spec v1alpha1.Disk, unit size.Bytes, seed string) disk.Config {
	var data []disk.Partition
	for _, f := range spec.FileSystems {
		data = append(data, disk.Partition{Role: disk.Data, Size: fixed(f.Size), FileSystem: &disk.FileSystem{
			MountPoint: f.MountPoint, MountOptions: f.MountOptions, Label: f.Label, Headroom: size.Bytes(f.Headroom),
		}})
	}
	return disk.Config{
		Size:        fixed(spec.Size).AlignUp(unit),
		Identifiers: disk.IdentifiersFrom(seed, spec.MountPoints()...),
		Partitions:  disk.Layout(spec.Firmware, data, disk.RootFileSystem(size.Bytes(spec.Headroom))),
	}
}

// fixed returns a size in bytes, 0 where the content decides.
func fixed(s v1alpha1.SizeOrContent) size.Bytes {
	if s == v1alpha1.Content {
		return 0
	}
	return size.Bytes(s)
}
