package ext4

import (
	"slices"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// Region is a part of a file system that belongs to no file.
type Region struct {
	// Kind says what lies there.
	Kind string
	volume.Extent
}

// Kinds of regions.
const (
	Superblocks = "superblocks and group descriptors"
	Bitmaps     = "bitmaps"
	InodeTables = "inode tables"
	Journal     = "journal"
)

// Features that decide where the superblock has copies, and whether there is a
// journal (super.rst).
const (
	compatHasJournal  = 0x4
	compatSparse2     = 0x200
	roCompatSparse    = 0x1
	journalInode      = 8
	backupGroupsPlace = 0x24C
)

// Layout lists the file system's own regions, by their place.
func (f *FS) Layout() ([]Region, error) {
	var out []Region
	add := func(kind string, block, blocks uint64) {
		if block < f.blocks {
			blocks = min(blocks, f.blocks-block)
			out = append(out, Region{kind, volume.Extent{Physical: int64(block) * f.blockSize, Length: int64(blocks) * f.blockSize}})
		}
	}
	groups := (f.blocks - f.firstData + f.blocksPerGroup - 1) / f.blocksPerGroup
	descriptors := (groups*uint64(f.descSize) + uint64(f.blockSize) - 1) / uint64(f.blockSize)
	tables := (uint64(f.inodesPerGroup)*uint64(f.inodeSize) + uint64(f.blockSize) - 1) / uint64(f.blockSize)
	add(Superblocks, 0, f.firstData+1+descriptors+f.reservedGDT)
	for group := range groups {
		if group > 0 && f.hasSuper(group) {
			add(Superblocks, f.firstData+group*f.blocksPerGroup, 1+descriptors+f.reservedGDT)
		}
		desc, err := f.descriptor(int64(group))
		if err != nil {
			return nil, err
		}
		block := func(low, high int) uint64 {
			n := uint64(le.Uint32(desc[low:]))
			if f.descSize >= 64 {
				n |= uint64(le.Uint32(desc[high:])) << 32
			}
			return n
		}
		add(Bitmaps, block(0x0, 0x20), 1)
		add(Bitmaps, block(0x4, 0x24), 1)
		add(InodeTables, block(0x8, 0x28), tables)
	}
	if f.compat&compatHasJournal != 0 {
		if journal, err := f.inode(journalInode); err == nil { // an external one has none
			extents, err := journal.Extents()
			if err != nil {
				return nil, err
			}
			for _, e := range extents {
				out = append(out, Region{Journal, e})
			}
		}
	}
	slices.SortFunc(out, func(a, b Region) int { return int(min(max(a.Physical-b.Physical, -1), 1)) })
	return out, nil
}

// hasSuper reports whether a group starts with a copy of the superblock.
func (f *FS) hasSuper(group uint64) bool {
	switch {
	case group == 0:
		return true
	case f.compat&compatSparse2 != 0:
		return slices.Contains(f.backupGroups[:], uint32(group))
	case f.readOnly&roCompatSparse == 0:
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		power := uint64(1)
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return false
}
