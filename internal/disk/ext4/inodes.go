package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Offsets and flags of the on-disk structures, from the Linux kernel's
// Documentation/filesystems/ext4 (super.rst, group_descr.rst, inodes.rst).
const (
	superblockOffset = 1024
	superblockSize   = 1024

	superInodesCount   = 0x00
	superBlocksLow     = 0x04
	superFirstBlock    = 0x14
	superLogBlockSize  = 0x18
	superBlocksInGroup = 0x20
	superInodesInGroup = 0x28
	superMagic         = 0x38
	superInodeSize     = 0x58
	superIncompatible  = 0x60
	superReadOnly      = 0x64
	superUUID          = 0x68
	superDescSize      = 0xFE
	superBlocksHigh    = 0x150
	superChecksumSeed  = 0x270

	magic            = 0xEF53
	incompatMetaBG   = 0x10
	incompat64Bit    = 0x80
	incompatCsumSeed = 0x2000
	readOnlyMetaCsum = 0x400

	descInodeTableLow  = 0x08
	descUnusedLow      = 0x1C
	descInodeTableHigh = 0x28
	descUnusedHigh     = 0x32
	descSizeShort      = 32
	descSizeLong       = 64

	inodeMode         = 0x00
	inodeUserLow      = 0x02
	inodeAtime        = 0x08
	inodeCtime        = 0x0C
	inodeMtime        = 0x10
	inodeGroupLow     = 0x18
	inodeLinks        = 0x1A
	inodeGeneration   = 0x64
	inodeUserHigh     = 0x78
	inodeGroupHigh    = 0x7A
	inodeChecksumLow  = 0x7C
	inodeChecksumHigh = 0x82
	inodeCtimeExtra   = 0x84
	inodeMtimeExtra   = 0x88
	inodeAtimeExtra   = 0x8C
	inodeCrtime       = 0x90
	inodeCrtimeExtra  = 0x94
)

// Inodes that every file system has (inodes.rst, special inodes).
const (
	rootInode  = 2
	lostInode  = 11 // the first that is not reserved: mke2fs makes lost+found first
	permission = 0o7777
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// volume is what has to be known of a file system to walk its inodes.
type volume struct {
	file           *os.File
	offset         size.Bytes
	groups         uint64
	inodesPerGroup uint32
	descSize       uint16
	// seed is the checksum that inode checksums continue; checksums says
	// whether inodes have any.
	checksums bool
	seed      uint32
	// root describes the tree's own directory; bare says that there shall be no
	// lost+found.
	root unix.Stat_t
	bare bool
}

// finish writes into the inodes what mke2fs does not take from the tree, or
// takes from the host: all times, and the root directory's owner and mode.
func (f FileSystem) finish(tree, disk string) (err error) {
	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("ext4 inodes: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("ext4 inodes: %w", closeErr)
		}
	}()
	v, err := openVolume(file, f.Offset)
	if err != nil {
		return fmt.Errorf("ext4 inodes: %w", err)
	}
	v.bare = f.Bare
	if err := unix.Stat(tree, &v.root); err != nil {
		return fmt.Errorf("ext4 inodes: %s: %w", tree, err)
	}
	for group := range v.groups {
		if err := v.finishGroup(group, f.Epoch.Unix()); err != nil {
			return fmt.Errorf("ext4 inodes: block group %d: %w", group, err)
		}
	}
	return nil
}

func openVolume(file *os.File, offset size.Bytes) (*volume, error) {
	s := make([]byte, superblockSize)
	if _, err := file.ReadAt(s, int64(offset)+superblockOffset); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint16(s[superMagic:]) != magic {
		return nil, fmt.Errorf("no file system at offset %d", int64(offset))
	}
	blocks, perGroup := uint64(le.Uint32(s[superBlocksLow:])), uint64(le.Uint32(s[superBlocksInGroup:]))
	incompatible := le.Uint32(s[superIncompatible:])
	v := &volume{
		file: file, offset: offset,
		inodesPerGroup: le.Uint32(s[superInodesInGroup:]),
		descSize:       descSizeShort,
		checksums:      le.Uint32(s[superReadOnly:])&readOnlyMetaCsum != 0,
		seed:           crc32.Checksum(s[superUUID:superUUID+16], castagnoli),
	}
	if incompatible&incompat64Bit != 0 {
		v.descSize = le.Uint16(s[superDescSize:])
		blocks |= uint64(le.Uint32(s[superBlocksHigh:])) << 32
	}
	if incompatible&incompatCsumSeed != 0 {
		v.seed = ^le.Uint32(s[superChecksumSeed:]) // kept without the final inversion
	}
	if le.Uint32(s[superLogBlockSize:]) != 2 || le.Uint32(s[superFirstBlock:]) != 0 ||
		size.Bytes(le.Uint16(s[superInodeSize:])) != InodeSize || incompatible&incompatMetaBG != 0 ||
		(v.descSize != descSizeShort && v.descSize != descSizeLong) || perGroup == 0 || v.inodesPerGroup == 0 ||
		perGroup > 8*uint64(BlockSize) || v.inodesPerGroup > 8*uint32(BlockSize) {
		return nil, errors.New("the file system has a layout that FileSystem.Write does not make")
	}
	v.groups = (blocks + perGroup - 1) / perGroup
	if want := uint64(le.Uint32(s[superInodesCount:])); v.groups*uint64(v.inodesPerGroup) != want {
		return nil, fmt.Errorf("%d groups of %d inodes are not %d inodes", v.groups, v.inodesPerGroup, want)
	}
	return v, nil
}

// finishGroup rewrites the used part of one group's inode table.
func (v *volume) finishGroup(group uint64, epoch int64) error {
	le := binary.LittleEndian
	desc := make([]byte, descSizeLong)
	at := int64(v.offset) + int64(BlockSize) + int64(group)*int64(v.descSize)
	if _, err := v.file.ReadAt(desc[:v.descSize], at); err != nil {
		return err
	}
	unused := uint32(le.Uint16(desc[descUnusedLow:])) | uint32(le.Uint16(desc[descUnusedHigh:]))<<16
	block := uint64(le.Uint32(desc[descInodeTableLow:])) | uint64(le.Uint32(desc[descInodeTableHigh:]))<<32
	if unused > v.inodesPerGroup {
		return fmt.Errorf("%d of %d inodes are unused", unused, v.inodesPerGroup)
	}
	table := make([]byte, int(v.inodesPerGroup-unused)*int(InodeSize))
	start := int64(v.offset) + int64(block)*int64(BlockSize)
	if _, err := v.file.ReadAt(table, start); err != nil {
		return err
	}
	changed := false
	for i := 0; i < len(table); i += int(InodeSize) {
		inode := table[i : i+int(InodeSize)]
		if le.Uint16(inode[inodeMode:]) == 0 {
			continue // free, or reserved and empty
		}
		changed = true
		number := uint32(group)*v.inodesPerGroup + uint32(i/int(InodeSize)) + 1
		switch {
		case number == rootInode:
			v.ownRoot(inode)
		case number == lostInode && v.bare && le.Uint16(inode[inodeLinks:]) != 0:
			return errors.New("lost+found is there, and not empty")
		}
		stampInode(inode, epoch)
		if v.checksums {
			v.sealInode(inode, number)
		}
	}
	if !changed {
		return nil
	}
	_, err := v.file.WriteAt(table, start)
	return err
}

// ownRoot gives the root directory the owner and the permissions of the tree's.
func (v *volume) ownRoot(inode []byte) {
	le := binary.LittleEndian
	mode := le.Uint16(inode[inodeMode:])&^permission | uint16(v.root.Mode&permission)
	le.PutUint16(inode[inodeMode:], mode)
	le.PutUint16(inode[inodeUserLow:], uint16(v.root.Uid))
	le.PutUint16(inode[inodeUserHigh:], uint16(v.root.Uid>>16))
	le.PutUint16(inode[inodeGroupLow:], uint16(v.root.Gid))
	le.PutUint16(inode[inodeGroupHigh:], uint16(v.root.Gid>>16))
}

// stampInode gives an inode times that the host has no part in: the
// modification time stays unless it is newer than the epoch; access and change
// time become equal to it; the creation time is the epoch. A time has 32 signed
// bits of seconds; its extra field has two more bits of them below 30 bits of
// nanoseconds.
func stampInode(inode []byte, epoch int64) {
	le := binary.LittleEndian
	seconds, extra := le.Uint32(inode[inodeMtime:]), le.Uint32(inode[inodeMtimeExtra:])
	newest, newestExtra := uint32(epoch), uint32((epoch-int64(int32(epoch)))>>32)&3
	mtime := int64(int32(seconds)) + int64(extra&3)<<32
	if mtime > epoch || (mtime == epoch && extra>>2 > 0) {
		seconds, extra = newest, newestExtra
	}
	for _, field := range []struct{ seconds, extra int }{
		{inodeMtime, inodeMtimeExtra}, {inodeAtime, inodeAtimeExtra}, {inodeCtime, inodeCtimeExtra},
	} {
		le.PutUint32(inode[field.seconds:], seconds)
		le.PutUint32(inode[field.extra:], extra)
	}
	le.PutUint32(inode[inodeCrtime:], newest)
	le.PutUint32(inode[inodeCrtimeExtra:], newestExtra)
}

// sealInode computes the inode's checksum: CRC-32C over the file system's seed,
// the inode's number, its generation and the inode, without final inversion.
func (v *volume) sealInode(inode []byte, number uint32) {
	le := binary.LittleEndian
	le.PutUint16(inode[inodeChecksumLow:], 0)
	le.PutUint16(inode[inodeChecksumHigh:], 0)
	sum := crc32.Update(v.seed, castagnoli, le.AppendUint32(nil, number))
	sum = crc32.Update(sum, castagnoli, inode[inodeGeneration:inodeGeneration+4])
	sum = ^crc32.Update(sum, castagnoli, inode)
	le.PutUint16(inode[inodeChecksumLow:], uint16(sum))
	le.PutUint16(inode[inodeChecksumHigh:], uint16(sum>>16))
}
