// Package ext4 lays out ext4 file systems.
//
// What comes in is a FileSystem and the list of its Entries; what goes out is an
// Image: a map from extents of the file system to metadata, which is in memory,
// and to the content of files, which is read only when the Image is. The same
// FileSystem and the same entries, in whatever order, give the same bytes:
// nothing is taken from the host, neither times nor link counts nor the order or
// the allocation of its directories. Memory grows with the number of entries,
// not with their content.
//
// Where a file lies follows from its path, its class and its size, so that a
// change of one file moves few others: see place.go and number.go.
//
// Structures and constants have the names of the Linux kernel's documentation,
// Documentation/filesystems/ext4, whose pages are cited as super.rst,
// group_descr.rst and so on.
package ext4

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// BlockSize and InodeSize are those of every file system made here; one inode
// is made for every BytesPerInode bytes.
const (
	BlockSize     = 4 * size.KiB
	InodeSize     = 256 * size.Bytes(1)
	BytesPerInode = 16 * size.KiB

	blockSize = int(BlockSize)
	inodeSize = int(InodeSize)
)

// ReservedShare is the part of a file system that is kept for root: one in 20
// blocks, as mke2fs has it.
const ReservedShare = 20

// FileSystem says what to make.
type FileSystem struct {
	// Size is a multiple of BlockSize.
	Size size.Bytes
	// UUID names the file system; HashSeed keys the hashes of its directories.
	UUID, HashSeed gpt.GUID
	// Label is at most 16 bytes.
	Label string
	// Features are all features of the file system, as mke2fs -O names them, and
	// no other is switched on: what the target's boot loader, kernel and e2fsck
	// understand is known to its distribution.
	Features []string
	// Epoch is the time of creation, and the newest time an inode may carry.
	Epoch time.Time
	// Bare leaves out lost+found, which e2fsck makes when it needs it: kubeadm
	// wants etcd's directory empty, and other programs theirs.
	Bare bool
	// Classes divide the file system: Entry.Class is an index of it. Without any,
	// there is one class for all.
	Classes []Class
}

// labelSize is the size of s_volume_name (super.rst).
const labelSize = 16

// Validate returns what is wrong with f.
func (f FileSystem) Validate() error {
	switch {
	case f.Size <= 0 || f.Size%BlockSize != 0:
		return fmt.Errorf("ext4: a file system of %d bytes does not consist of blocks of %v", int64(f.Size), BlockSize)
	case f.UUID == (gpt.GUID{}) || f.HashSeed == (gpt.GUID{}):
		return errors.New("ext4: the UUID or the hash seed is missing")
	case len(f.Label) > labelSize:
		return fmt.Errorf("ext4: label %q is longer than %d bytes", f.Label, labelSize)
	case f.Epoch.Unix() <= 0:
		return errors.New("ext4: the epoch is missing")
	}
	if _, err := parseFeatures(f.Features); err != nil {
		return err
	}
	return checkClasses(f.Classes)
}

// builder is one run of Build.
type builder struct {
	FileSystem
	*geometry
	features features
	seed     uint32 // of all metadata checksums
	tree     *tree
	special  *special
	blocks   *allocator
	inodes   map[uint32][]byte // by block of all inode tables
	image    *Image
}

// Build lays out the file system. Entries that do not fit are fault.BadSpec.
func (f FileSystem) Build(ctx context.Context, entries []Entry) (*Image, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	b, err := f.newBuilder()
	if err != nil {
		return nil, err
	}
	if b.tree, err = plant(entries, f); err != nil {
		return nil, fmt.Errorf("ext4: %w", err)
	}
	b.tree.cut()
	for _, step := range []func() error{b.number, b.place, b.encode} {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := step(); err != nil {
			return nil, fmt.Errorf("ext4: %w", err)
		}
	}
	return b.image, nil
}

// newBuilder knows the geometry, but nothing of the entries.
func (f FileSystem) newBuilder() (*builder, error) {
	set, err := parseFeatures(f.Features)
	if err != nil {
		return nil, err
	}
	g, err := newGeometry(f.Size, set)
	if err != nil {
		return nil, err
	}
	if len(f.Classes) == 0 {
		f.Classes = []Class{{Name: "all", Share: 100}}
	}
	return &builder{FileSystem: f, geometry: g, features: set, seed: crc32c(^uint32(0), f.UUID[:])}, nil
}

// full is the error for entries that do not fit.
func full(what string) error {
	return fault.New(fault.BadSpec, "make disk.size larger", "the tree is larger than its file system: no %s are left", what)
}
