package ext4

import (
	"fmt"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

const (
	// blocksPerGroup is how many blocks one block of bitmap describes
	// (bitmaps.rst).
	blocksPerGroup = 8 * uint64(blockSize)
	// groupsPerFlex is how many groups have their bitmaps and inode tables
	// together in the first one of them (blockgroup.rst, "Flexible Block Groups"),
	// as mke2fs has it.
	logGroupsPerFlex = 4
	// growth is how many times its size a file system can be resized to, as far
	// as maxReservedGDT, one block of block numbers, reaches.
	growth, maxReservedGDT = 1024, uint64(blockSize) / 4
	maxBlocks32            = 1<<32 - 1
	inodesPerBlock         = uint32(blockSize / inodeSize)
	// spareInLastGroup is how many blocks more than for itself a last group must
	// have: a smaller one is left out, as by mke2fs.
	spareInLastGroup = 50
)

// geometry is where the file system keeps its own structures: it follows from
// the size and the features alone, and is mke2fs's (libext2fs, initialize.c and
// alloc_tables.c) unless said otherwise.
type geometry struct {
	count          uint64 // of blocks
	groups         uint32
	inodesPerGroup uint32
	tableBlocks    uint64 // of one group's inode table
	descSize       int
	descBlocks     uint64 // of all group descriptors
	reservedGDT    uint64
	perFlex        uint32
	journal        uint64 // blocks
}

func newGeometry(length size.Bytes, f features) (*geometry, error) {
	g := &geometry{count: uint64(length / BlockSize), descSize: 32, perFlex: 1}
	if f.incompat&incompat64Bit != 0 {
		g.descSize = 64
	}
	if f.incompat&incompatFlexBG != 0 {
		g.perFlex = 1 << logGroupsPerFlex
	}
	if f.compat&compatHasJournal != 0 {
		g.journal = uint64(journalSize(length) / BlockSize)
	}
	for {
		g.divide(uint64(length/BytesPerInode), f)
		last, own := g.blocksIn(g.groups-1), g.superBlocks(g.groups-1)+2+g.tableBlocks
		if g.groups > 1 && last < own+spareInLastGroup {
			g.count -= last
			continue
		}
		if g.groups == 1 && last < own+g.journal+spareInLastGroup {
			return nil, fmt.Errorf("ext4: %v are too few for a file system", length)
		}
		return g, nil
	}
}

// divide computes what follows from the number of blocks.
func (g *geometry) divide(inodes uint64, f features) {
	g.groups = uint32(ceil(g.count, blocksPerGroup))
	perBlock := uint64(blockSize / g.descSize)
	g.descBlocks = ceil(uint64(g.groups), perBlock)
	if f.compat&compatResizeInode != 0 {
		reach := ceil(min(g.count*growth, maxBlocks32), blocksPerGroup)
		g.reservedGDT = min(ceil(reach, perBlock)-g.descBlocks, maxReservedGDT)
	}
	g.tableBlocks = ceil(ceil(inodes, uint64(g.groups)), uint64(inodesPerBlock))
	g.inodesPerGroup = uint32(g.tableBlocks) * inodesPerBlock
}

// journalSize returns the size that mke2fs gives the journal of a file system
// (ext2fs_default_journal_size, for blocks of 4 KiB).
func journalSize(fileSystem size.Bytes) size.Bytes {
	for _, step := range []struct{ below, journal size.Bytes }{
		{8 * size.MiB, 0}, {128 * size.MiB, 4 * size.MiB}, {1 * size.GiB, 16 * size.MiB},
		{2 * size.GiB, 32 * size.MiB}, {16 * size.GiB, 64 * size.MiB}, {32 * size.GiB, 128 * size.MiB},
		{64 * size.GiB, 256 * size.MiB}, {128 * size.GiB, 512 * size.MiB},
	} {
		if fileSystem < step.below {
			return step.journal
		}
	}
	return size.GiB
}

func (g *geometry) firstBlock(group uint32) uint64 { return uint64(group) * blocksPerGroup }

func (g *geometry) blocksIn(group uint32) uint64 {
	return min(g.count-g.firstBlock(group), blocksPerGroup)
}

// hasSuper says whether a group has a copy of the superblock and of the group
// descriptors: 0, 1 and the powers of 3, 5 and 7 (blockgroup.rst).
func hasSuper(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		power := base
		for power < uint64(group) {
			power *= base
		}
		if power == uint64(group) {
			return true
		}
	}
	return false
}

// superBlocks returns how many blocks at a group's start hold the superblock,
// the descriptors and the room for more of them.
func (g *geometry) superBlocks(group uint32) uint64 {
	if !hasSuper(group) {
		return 0
	}
	return 1 + g.descBlocks + g.reservedGDT
}

// places are where a group has its bitmaps and its inode table.
type places struct{ blockBitmap, inodeBitmap, inodeTable uint64 }

// at returns the places of a group: with flex_bg in the first group of its
// flexible group, first all block bitmaps, then all inode bitmaps, then all
// tables.
func (g *geometry) at(group uint32) places {
	first := group / g.perFlex * g.perFlex
	together := uint64(min(g.perFlex, g.groups-first))
	base, index := g.firstBlock(first)+g.superBlocks(first), uint64(group-first)
	return places{base + index, base + together + index, base + 2*together + index*g.tableBlocks}
}

// own returns how many blocks of a group are taken by its own structures: those
// that the kernel knows of when the group's bitmap is not initialized.
func (g *geometry) own(group uint32) uint64 {
	n := g.superBlocks(group)
	if g.perFlex == 1 || group%g.perFlex == 0 {
		n += 2 + g.tableBlocks
	}
	return n
}

// reserve marks all structures of the file system in the allocator.
func (g *geometry) reserve(a *allocator) {
	for group := range g.groups {
		p := g.at(group)
		a.take(g.firstBlock(group), g.superBlocks(group))
		a.take(p.blockBitmap, 1)
		a.take(p.inodeBitmap, 1)
		a.take(p.inodeTable, g.tableBlocks)
	}
}

// overhead is the number of blocks that the structures and the journal take.
func (g *geometry) overhead() uint64 {
	n := g.journal
	for group := range g.groups {
		n += g.superBlocks(group) + 2 + g.tableBlocks
	}
	return n
}

func ceil(a, b uint64) uint64 { return (a + b - 1) / b }
