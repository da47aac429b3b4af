package ext4

import "nodesmith.dev/nodesmith/internal/disk/size"

// ReservedShare is the part of a file system that mke2fs keeps for root:
// one in 20 blocks.
const ReservedShare = 20

// The layout that mke2fs gives a file system with the features 64bit,
// resize_inode and sparse_super; without them it takes less.
const (
	blocksPerGroup      = 8 * BlockSize // one block of bitmap
	descriptorsPerBlock = BlockSize / descSizeLong
	// growth is how many times its size a file system can be resized to, as far
	// as one block of block numbers reaches.
	growth, maxReserved = 1024, BlockSize / 4
	// ownBlocks are those of the root directory, lost+found and the resize inode.
	ownBlocks = 1 + 4 + 1
	// reservedInodes are those before the first of a file, and lost+found.
	reservedInodes = 11
)

// Overhead returns what a new file system of length bytes takes for itself, and
// how many inodes it has for files.
func Overhead(length size.Bytes) (inodes int64, overhead size.Bytes) {
	blocks := length / BlockSize
	groups := (blocks + blocksPerGroup - 1) / blocksPerGroup
	descriptors := (groups + descriptorsPerBlock - 1) / descriptorsPerBlock
	reserved := min((groups*growth+descriptorsPerBlock-1)/descriptorsPerBlock-descriptors, maxReserved)
	all := length / BytesPerInode
	taken := superblocks(groups)*(1+descriptors+reserved) + 2*groups + ownBlocks + journal(length)/BlockSize +
		(all*InodeSize+BlockSize-1)/BlockSize + groups // inode tables, rounded up in each group
	return int64(all) - reservedInodes, taken * BlockSize
}

// superblocks returns how many groups have a copy of the superblock and the
// descriptors: 0, 1 and the powers of 3, 5 and 7.
func superblocks(groups size.Bytes) size.Bytes {
	count := min(groups, 2)
	for _, base := range []size.Bytes{3, 5, 7} {
		for power := base; power < groups; power *= base {
			count++
		}
	}
	return count
}

// journal returns the size that mke2fs gives the journal of a file system
// (ext2fs_default_journal_size, for blocks of 4 KiB).
func journal(fileSystem size.Bytes) size.Bytes {
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
