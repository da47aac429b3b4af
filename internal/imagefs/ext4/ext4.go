// Package ext4 reads ext2, ext3 and ext4 file systems.
//
// What comes in is an io.ReaderAt of a file system that nobody has mounted,
// what goes out are its files as volume.Node. Nothing is written and the
// journal is not replayed: Clean says whether that was needed. The input may be
// hostile: every length is checked before memory is asked for, every tree has a
// bound on its depth. Names are those of the Linux kernel's documentation,
// filesystems/ext4/*.rst, and of fs/ext4/ext4.h.
package ext4

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// Places and bounds of the superblock (super.rst).
const (
	superblockOffset = 1024
	superblockSize   = 1024
	magic            = 0xEF53
	magicOffset      = 0x38
	maxLogBlockSize  = 6 // 64 KiB
	rootInode        = 2
)

// Incompatible features (s_feature_incompat).
const (
	incompatFiletype   = 0x2
	incompatRecover    = 0x4
	incompatExtents    = 0x40
	incompat64bit      = 0x80
	incompatMMP        = 0x100
	incompatFlexBG     = 0x200
	incompatEAInode    = 0x400
	incompatCsumSeed   = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000
	incompatCasefold   = 0x20000

	incompatKnown = incompatFiletype | incompatRecover | incompatExtents | incompat64bit | incompatMMP |
		incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInlineData | incompatCasefold
)

// stateClean and stateErrors are bits of s_state.
const (
	stateClean  = 0x1
	stateErrors = 0x2
)

var le = binary.LittleEndian

// FS is an open file system.
type FS struct {
	r              io.ReaderAt
	size           int64 // of the volume that holds the file system
	blockSize      int64
	blocks         uint64
	firstData      uint64
	inodes         uint32
	inodesPerGroup uint32
	inodeSize      int64
	descSize       int64
	compat         uint32
	incompat       uint32
	readOnly       uint32 // s_feature_ro_compat
	blocksPerGroup uint64
	reservedGDT    uint64
	backupGroups   [2]uint32
	state          uint16
	uuid           [16]byte
	label          string
}

// Is reports whether r starts with a superblock of this family.
func Is(r io.ReaderAt) bool {
	var m [2]byte
	_, err := r.ReadAt(m[:], superblockOffset+magicOffset)
	return err == nil && le.Uint16(m[:]) == magic
}

// Open reads the superblock of a file system on a volume of size bytes. A file
// system that is larger than its volume, or that has features this package does
// not know, is an error.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	sb := make([]byte, superblockSize)
	if _, err := r.ReadAt(sb, superblockOffset); err != nil {
		return nil, fmt.Errorf("ext4: read superblock: %w", err)
	}
	if le.Uint16(sb[magicOffset:]) != magic {
		return nil, errors.New("ext4: no superblock")
	}
	logBlock := le.Uint32(sb[0x18:])
	if logBlock > maxLogBlockSize {
		return nil, fmt.Errorf("ext4: block size of 2^%d KiB", logBlock)
	}
	f := &FS{
		r: r, size: size,
		blockSize:      1024 << logBlock,
		blocks:         uint64(le.Uint32(sb[0x4:])),
		firstData:      uint64(le.Uint32(sb[0x14:])),
		inodes:         le.Uint32(sb[0x0:]),
		inodesPerGroup: le.Uint32(sb[0x28:]),
		inodeSize:      128,
		descSize:       32,
		compat:         le.Uint32(sb[0x5C:]),
		incompat:       le.Uint32(sb[0x60:]),
		readOnly:       le.Uint32(sb[0x64:]),
		blocksPerGroup: uint64(le.Uint32(sb[0x20:])),
		reservedGDT:    uint64(le.Uint16(sb[0xCE:])),
		backupGroups:   [2]uint32{le.Uint32(sb[backupGroupsPlace:]), le.Uint32(sb[backupGroupsPlace+4:])},
		state:          le.Uint16(sb[0x3A:]),
		label:          cString(sb[0x78:0x88]),
	}
	copy(f.uuid[:], sb[0x68:])
	if le.Uint32(sb[0x4C:]) > 0 { // s_rev_level: 0 has fixed inodes of 128 bytes
		f.inodeSize = int64(le.Uint16(sb[0x58:]))
	}
	if f.incompat&incompat64bit != 0 {
		f.blocks |= uint64(le.Uint32(sb[0x150:])) << 32
		f.descSize = int64(le.Uint16(sb[0xFE:]))
	}
	return f, f.check()
}

// check refuses what the rest of the package could not read safely.
func (f *FS) check() error {
	if unknown := f.incompat &^ incompatKnown; unknown != 0 {
		return fmt.Errorf("ext4: this reader does not know the features %#x", unknown)
	}
	if f.blocks == 0 || f.blocks > uint64(f.size/f.blockSize) {
		return fmt.Errorf("ext4: a file system of %d blocks of %d bytes on a volume of %d bytes", f.blocks, f.blockSize, f.size)
	}
	if f.inodeSize < 128 || f.inodeSize > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0 {
		return fmt.Errorf("ext4: inodes of %d bytes", f.inodeSize)
	}
	if f.descSize < 32 || f.descSize > 1024 || f.inodesPerGroup == 0 || f.firstData > 1 ||
		f.blocksPerGroup < 8 || f.blocksPerGroup > 8*uint64(f.blockSize) {
		return fmt.Errorf("ext4: group descriptors of %d bytes, %d blocks and %d inodes per group, first data block %d",
			f.descSize, f.blocksPerGroup, f.inodesPerGroup, f.firstData)
	}
	return nil
}

// Kind returns "ext4", under which the kernel mounts the whole family.
func (f *FS) Kind() string { return "ext4" }

// UUID returns the file system's identifier in its usual text form.
func (f *FS) UUID() string {
	s := hex.EncodeToString(f.uuid[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// Label returns the volume name.
func (f *FS) Label() string { return f.label }

// Size returns the length of the file system in bytes.
func (f *FS) Size() int64 { return int64(f.blocks) * f.blockSize }

// Clean reports whether the file system was unmounted cleanly, has no journal
// to replay and no error recorded in it.
func (f *FS) Clean() bool {
	return f.state&stateClean != 0 && f.state&stateErrors == 0 && f.incompat&incompatRecover == 0
}

// Root returns the root directory.
func (f *FS) Root() (volume.Node, error) { return f.inode(rootInode) }

// readBlock reads one whole block.
func (f *FS) readBlock(n uint64) ([]byte, error) {
	if n == 0 || n >= f.blocks {
		return nil, fmt.Errorf("ext4: block %d lies outside the file system", n)
	}
	b := make([]byte, f.blockSize)
	if _, err := f.r.ReadAt(b, int64(n)*f.blockSize); err != nil {
		return nil, fmt.Errorf("ext4: read block %d: %w", n, err)
	}
	return b, nil
}

// descriptor reads the descriptor of a group of blocks (group_descr.rst).
func (f *FS) descriptor(group int64) ([]byte, error) {
	desc := make([]byte, f.descSize)
	if _, err := f.r.ReadAt(desc, (int64(f.firstData)+1)*f.blockSize+group*f.descSize); err != nil {
		return nil, fmt.Errorf("ext4: read descriptor of group %d: %w", group, err)
	}
	return desc, nil
}

// inode reads an inode by its number.
func (f *FS) inode(n uint32) (*inode, error) {
	if n == 0 || n > f.inodes {
		return nil, fmt.Errorf("ext4: there is no inode %d", n)
	}
	group, index := int64((n-1)/f.inodesPerGroup), int64((n-1)%f.inodesPerGroup)
	desc, err := f.descriptor(group)
	if err != nil {
		return nil, err
	}
	table := uint64(le.Uint32(desc[0x8:])) // bg_inode_table
	if f.descSize >= 64 {
		table |= uint64(le.Uint32(desc[0x28:])) << 32
	}
	if table == 0 || table >= f.blocks {
		return nil, fmt.Errorf("ext4: the inode table of group %d lies outside the file system", group)
	}
	raw := make([]byte, f.inodeSize)
	if _, err := f.r.ReadAt(raw, int64(table)*f.blockSize+index*f.inodeSize); err != nil {
		return nil, fmt.Errorf("ext4: read inode %d: %w", n, err)
	}
	if le.Uint16(raw) == 0 {
		return nil, fmt.Errorf("ext4: inode %d is not in use", n)
	}
	return &inode{fs: f, number: n, raw: raw}, nil
}

// cString returns b up to its first zero byte.
func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
