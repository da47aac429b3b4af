package ext4

import "encoding/binary"

// The extent tree (ifork.rst, "Extent Tree").
const (
	extentMagic  = 0xF30A
	extentRecord = 12 // ext4_extent_header, ext4_extent_idx and ext4_extent
	rootExtents  = iBlockSize/extentRecord - 1
	blockExtents = (blockSize-4)/extentRecord - 1
)

// indexBlocks is the number of blocks that the tree of some extents takes
// besides the inode.
func indexBlocks(extents int) (blocks uint64) {
	for n := uint64(extents); n > rootExtents; {
		n = ceil(n, uint64(blockExtents))
		blocks += n
	}
	return blocks
}

// encodeExtents writes the tree of a file's extents: its root into root, the
// other blocks where place found room for them.
func (b *builder) encodeExtents(n *node, root []byte) {
	var records [][extentRecord]byte
	if n.content != nil {
		for _, e := range n.content.extents {
			var r [extentRecord]byte
			binary.LittleEndian.PutUint32(r[0:], uint32(e.logical))
			binary.LittleEndian.PutUint16(r[4:], uint16(e.length))
			binary.LittleEndian.PutUint16(r[6:], uint16(e.physical>>32))
			binary.LittleEndian.PutUint32(r[8:], uint32(e.physical))
			records = append(records, r)
		}
	}
	index, depth := n.index, uint16(0)
	for ; len(records) > rootExtents; depth++ {
		var above [][extentRecord]byte
		for len(records) > 0 {
			count := min(len(records), blockExtents)
			block := make([]byte, blockSize)
			putExtents(block, records[:count], blockExtents, depth)
			if b.features.checksums() {
				const tail = blockSize - 4 // ext4_extent_tail
				binary.LittleEndian.PutUint32(block[tail:], crc32c(b.inodeSeed(n.number), block[:tail]))
			}
			b.image.put(index[0], block)
			var r [extentRecord]byte
			copy(r[:4], records[0][:4])
			binary.LittleEndian.PutUint32(r[4:], uint32(index[0]))
			binary.LittleEndian.PutUint16(r[8:], uint16(index[0]>>32))
			above, records, index = append(above, r), records[count:], index[1:]
		}
		records = above
	}
	putExtents(root, records, rootExtents, depth)
}

func putExtents(area []byte, records [][extentRecord]byte, most int, depth uint16) {
	for at, value := range []uint16{extentMagic, uint16(len(records)), uint16(most), depth} {
		binary.LittleEndian.PutUint16(area[2*at:], value)
	}
	for i, r := range records {
		copy(area[(i+1)*extentRecord:], r[:])
	}
}
