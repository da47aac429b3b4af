package pipeline

import (
	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// diskConfig returns what the spec says of the disk, with identifiers from
// seed; the rest is for the graph to fill in.
func diskConfig(spec v1alpha1.Disk, seed string) disk.Config {
	var data []disk.Partition
	for _, f := range spec.FileSystems {
		data = append(data, disk.Partition{Role: disk.Data, Size: fixed(f.Size), FileSystem: &disk.FileSystem{
			MountPoint: f.MountPoint, MountOptions: f.MountOptions, Label: f.Label, Headroom: size.Bytes(f.Headroom),
		}})
	}
	return disk.Config{
		Size:        fixed(spec.Size),
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
