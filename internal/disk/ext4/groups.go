package ext4

import "encoding/binary"

// groupDescriptor is ext4_group_desc (group_descr.rst). Without the feature
// 64bit only its first 32 bytes are written.
type groupDescriptor struct {
	blockBitmapLo     uint32 // bg_block_bitmap_lo
	inodeBitmapLo     uint32
	inodeTableLo      uint32
	freeBlocksCountLo uint16
	freeInodesCountLo uint16
	usedDirsCountLo   uint16
	flags             uint16
	excludeBitmapLo   uint32
	blockBitmapCsumLo uint16
	inodeBitmapCsumLo uint16
	itableUnusedLo    uint16
	checksum          uint16
	blockBitmapHi     uint32
	inodeBitmapHi     uint32
	inodeTableHi      uint32
	freeBlocksCountHi uint16
	freeInodesCountHi uint16
	usedDirsCountHi   uint16
	itableUnusedHi    uint16
	excludeBitmapHi   uint32
	blockBitmapCsumHi uint16
	inodeBitmapCsumHi uint16
	_                 uint32
}

// Values of bg_flags.
const (
	inodeUninit  = 0x1 // EXT4_BG_INODE_UNINIT
	blockUninit  = 0x2 // EXT4_BG_BLOCK_UNINIT
	inodeZeroed  = 0x4 // EXT4_BG_INODE_ZEROED
	descChecksum = 0x1E
)

// group is what the descriptor of a group counts.
type group struct {
	index      uint32
	freeBlocks uint64
	usedInodes uint32 // up to the last one that is used
	freeInodes uint32
	dirs       uint32
	// plain says that no block is taken but by the group's own structures.
	plain bool
}

// pristine describes a group of a file system without files.
func (b *builder) pristine(index uint32) group {
	g := group{index: index, freeInodes: b.inodesPerGroup, plain: b.perFlex == 1 || index%b.perFlex != 0}
	g.freeBlocks = b.blocksIn(index) - b.own(index)
	if !g.plain { // the other groups' structures
		first := min(b.perFlex, b.groups-index) - 1
		g.freeBlocks -= uint64(first) * (2 + b.tableBlocks)
	}
	return g
}

// bitmaps are those of a group on the disk; nil where they are not initialized.
type bitmaps struct{ blocks, inodes []byte }

// descriptor encodes a group's descriptor.
func (b *builder) descriptor(g group, on bitmaps) ([]byte, error) {
	d := b.describe(g)
	if b.features.checksums() {
		unused := b.inodesPerGroup - g.usedInodes
		d.itableUnusedLo, d.itableUnusedHi = uint16(unused), uint16(unused>>16)
		if on.blocks == nil {
			d.flags |= blockUninit
		} else {
			sum := crc32c(b.seed, on.blocks)
			d.blockBitmapCsumLo, d.blockBitmapCsumHi = uint16(sum), uint16(sum>>16)
		}
		if on.inodes == nil {
			d.flags |= inodeUninit
		} else {
			sum := crc32c(b.seed, on.inodes[:b.inodesPerGroup/8])
			d.inodeBitmapCsumLo, d.inodeBitmapCsumHi = uint16(sum), uint16(sum>>16)
		}
	}
	return b.sealDescriptor(g, d)
}

// copiedDescriptor encodes the descriptor that copies of the table have: it says
// neither that bitmaps are not initialized nor what their checksums are, so that
// nothing is ever allocated by it.
func (b *builder) copiedDescriptor(g group) ([]byte, error) {
	return b.sealDescriptor(g, b.describe(g))
}

// describe fills in the places and the counts.
func (b *builder) describe(g group) groupDescriptor {
	p := b.at(g.index)
	d := groupDescriptor{
		blockBitmapLo: uint32(p.blockBitmap), blockBitmapHi: uint32(p.blockBitmap >> 32),
		inodeBitmapLo: uint32(p.inodeBitmap), inodeBitmapHi: uint32(p.inodeBitmap >> 32),
		inodeTableLo: uint32(p.inodeTable), inodeTableHi: uint32(p.inodeTable >> 32),
		freeBlocksCountLo: uint16(g.freeBlocks), freeBlocksCountHi: uint16(g.freeBlocks >> 16),
		freeInodesCountLo: uint16(g.freeInodes), freeInodesCountHi: uint16(g.freeInodes >> 16),
		usedDirsCountLo: uint16(g.dirs), usedDirsCountHi: uint16(g.dirs >> 16),
	}
	if b.features.checksums() {
		d.flags = inodeZeroed
	}
	return d
}

// sealDescriptor encodes a descriptor and adds its checksum.
func (b *builder) sealDescriptor(g group, d groupDescriptor) ([]byte, error) {
	data, err := binary.Append(nil, binary.LittleEndian, d)
	if err != nil {
		return nil, err
	}
	data = data[:b.descSize]
	if b.features.checksums() {
		sum := crc32c(crc32c(b.seed, binary.LittleEndian.AppendUint32(nil, g.index)), data)
		binary.LittleEndian.PutUint16(data[descChecksum:], uint16(sum))
	}
	return data, nil
}

// blockBitmap returns a group's bitmap (bitmaps.rst): what is behind the end of
// the file system is taken.
func (b *builder) blockBitmap(index uint32) []byte {
	bitmap := make([]byte, blockSize)
	first := b.firstBlock(index) / wordBits
	for i := range blocksPerGroup / wordBits {
		word := ^uint64(0)
		if first+i < uint64(len(b.blocks.taken)) {
			word = b.blocks.taken[first+i]
		}
		binary.LittleEndian.PutUint64(bitmap[8*i:], word)
	}
	for i := b.blocksIn(index); i < blocksPerGroup; i++ {
		bitmap[i/8] |= 1 << (i % 8)
	}
	return bitmap
}
