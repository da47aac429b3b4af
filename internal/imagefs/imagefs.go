// Package imagefs is a read-only view of a disk image: its partitions, and its
// file systems put together as the node would mount them.
//
// What comes in is an io.ReaderAt, which may be a raw file or the virtual disk
// within another format; what goes out is an Image. Nothing is mounted, run or
// written, and no privilege is needed. The image may be hostile.
package imagefs

import (
	"errors"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/imagefs/ext4"
	"nodesmith.dev/nodesmith/internal/imagefs/fat"
	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// Image is an opened disk.
type Image struct {
	// Size is the disk's, in bytes.
	Size int64
	// Disk is the whole disk.
	Disk  io.ReaderAt
	Table *Table
	// Root is the partition that holds the root file system, System the file
	// system itself, Tree the files with everything that fstab mounts.
	Root   *Partition
	System *ext4.FS
	Tree   *Tree
	// RootErr says why there is no Tree.
	RootErr error
	// Mounted are the other file systems that Tree has, parents first. FstabErrs
	// say which lines of fstab can't be meant as they stand.
	Mounted   []Mounted
	FstabErrs []error
	// ESP has the files of the EFI system partition; nil when there is none.
	ESP *Tree
	// ESPErr says why an EFI system partition that the table names has none.
	ESPErr error

	volumes map[int]volume.Volume // by index of the partition
}

// Signatures of what may not be a file system, and where they are.
var signatures = []struct {
	kind   string
	offset int64
	text   string
}{
	{"xfs", 0, "XFSB"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"lvm", 512, "LABELONE"},
	{"luks", 0, "LUKS\xba\xbe"},
	{"btrfs", 0x10040, "_BHRfS_M"},
	{"squashfs", 0, "hsqs"},
}

// Content names what a partition holds by its own signature (ext4, vfat, xfs,
// swap, lvm, luks, btrfs, squashfs), "" when it is none of them.
func (i *Image) Content(p Partition) string {
	r := i.Section(p)
	switch {
	case ext4.Is(r):
		return "ext4"
	case fat.Is(r):
		return "vfat"
	}
	for _, s := range signatures {
		b := make([]byte, len(s.text))
		if _, err := r.ReadAt(b, s.offset); err == nil && string(b) == s.text {
			return s.kind
		}
	}
	return ""
}

// Volume is the file system on a partition, by its index in the table; nil when
// there is none that can be read.
func (i *Image) Volume(partition int) volume.Volume { return i.volumes[partition] }

// Section is a partition's bytes.
func (i *Image) Section(p Partition) *io.SectionReader {
	return io.NewSectionReader(i.Disk, p.Start, p.Size)
}

// Open reads the partition table and finds the file systems. An error means
// that there is no usable partition table; what is wrong further in stands in
// the Image.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	table, err := readTable(r, size)
	if err != nil {
		return nil, err
	}
	i := &Image{Size: size, Disk: r, Table: table}
	i.openVolumes()
	i.findRoot()
	for n, p := range table.Partitions {
		if p.Type != ESP || i.ESP != nil {
			continue
		}
		if v, ok := i.volumes[n].(*fat.FS); ok {
			i.ESP, i.ESPErr = newTree(v, p)
		} else {
			i.ESPErr = fmt.Errorf("partition %d is no FAT file system", p.Number)
		}
	}
	if i.Tree != nil {
		i.mountAll()
	}
	return i, nil
}

// openVolumes opens every file system that can be read.
func (i *Image) openVolumes() {
	i.volumes = map[int]volume.Volume{}
	for n, p := range i.Table.Partitions {
		section := i.Section(p)
		switch i.Content(p) {
		case "ext4":
			if v, err := ext4.Open(section, p.Size); err == nil {
				i.volumes[n] = v
			} else {
				i.RootErr = fmt.Errorf("partition %d: %w", p.Number, err)
			}
		case "vfat":
			if v, err := fat.Open(section, p.Size); err == nil {
				i.volumes[n] = v
			}
		case "xfs", "btrfs", "lvm", "luks":
			i.RootErr = fmt.Errorf("partition %d holds %s, which this program cannot read", p.Number, i.Content(p))
		}
	}
}

// findRoot takes the first file system that has an operating system on it.
func (i *Image) findRoot() {
	for n := range i.Table.Partitions {
		v, ok := i.volumes[n].(*ext4.FS)
		if !ok {
			continue
		}
		tree, err := newTree(v, i.Table.Partitions[n])
		if err != nil {
			i.RootErr = err
			continue
		}
		if !tree.Exists("/etc/os-release") && !tree.Exists("/usr/lib/os-release") {
			continue
		}
		i.Root, i.System, i.Tree, i.RootErr = &i.Table.Partitions[n], v, tree, nil
		return
	}
	if i.RootErr == nil {
		i.RootErr = errors.New("no partition holds a root file system: none has /etc/os-release")
	}
}

// IsRoot reports whether a device, written as root= and fstab do (UUID=...),
// is the root file system.
func (i *Image) IsRoot(device string) bool {
	return i.Root != nil && Mount{Device: device}.means(*i.Root, i.System)
}

// HasLabel reports whether a file system of this disk is called label.
func (i *Image) HasLabel(label string) bool { return i.Has(Mount{Device: "LABEL=" + label}) }
