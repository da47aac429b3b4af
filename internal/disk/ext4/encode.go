package ext4

import "encoding/binary"

// encode writes all metadata into the image.
func (b *builder) encode() error {
	b.image = &Image{size: int64(b.Size)}
	b.inodes = map[uint32][]byte{}
	if b.features.checksums() {
		for number := uint32(badBlocksInode); number < firstInode; number++ {
			b.inodeRecord(number) // reserved ones have a checksum even if they are empty
		}
	}
	b.encodeResize()
	if err := b.encodeJournal(); err != nil {
		return err
	}
	for _, n := range b.tree.nodes {
		if err := b.encodeNode(n); err != nil {
			return err
		}
	}
	b.sealInodes()
	sum, table, err := b.encodeGroups()
	if err != nil {
		return err
	}
	if err := b.encodeSupers(sum, table); err != nil {
		return err
	}
	return nil
}

// inodeRecord returns where an inode is put together.
func (b *builder) inodeRecord(number uint32) []byte {
	block, index := (number-1)/inodesPerBlock, int((number-1)%inodesPerBlock)
	if b.inodes[block] == nil {
		b.inodes[block] = make([]byte, blockSize)
	}
	return b.inodes[block][index*inodeSize : (index+1)*inodeSize]
}

// sealInodes adds the checksums and puts the inode tables into the image.
func (b *builder) sealInodes() {
	tableBlocks := uint32(b.tableBlocks)
	for block, data := range b.inodes {
		for i := range inodesPerBlock {
			number := block*inodesPerBlock + i + 1
			inode := data[int(i)*inodeSize : int(i+1)*inodeSize]
			used := number < firstInode || binary.LittleEndian.Uint16(inode[iMode:]) != 0
			if used && b.features.checksums() {
				b.sealInode(inode, number)
			}
		}
		b.image.put(b.at(block/tableBlocks).inodeTable+uint64(block%tableBlocks), data)
	}
}

// inodeUsage are the inodes in use, by group.
type inodeUsage struct {
	bitmap []byte
	last   uint32 // index of the last one in use, from 1
	count  uint32
	dirs   uint32
}

func (u *inodeUsage) add(index uint32, dir bool) {
	u.bitmap[index/8] |= 1 << (index % 8)
	u.count++
	u.last = max(u.last, index+1)
	if dir {
		u.dirs++
	}
}

// newInodeUsage is that of a group without files. Inodes that the bitmap has room
// for beyond those of a group count as used (bitmaps.rst).
func (b *builder) newInodeUsage() *inodeUsage {
	u := &inodeUsage{bitmap: make([]byte, blockSize)}
	for i := b.inodesPerGroup; i < uint32(8*blockSize); i++ {
		u.bitmap[i/8] |= 1 << (i % 8)
	}
	return u
}

// usage collects the inodes in use.
func (b *builder) usage() map[uint32]*inodeUsage {
	all := map[uint32]*inodeUsage{}
	add := func(number uint32, dir bool) {
		group := (number - 1) / b.inodesPerGroup
		if all[group] == nil {
			all[group] = b.newInodeUsage()
		}
		all[group].add((number-1)%b.inodesPerGroup, dir)
	}
	for number := uint32(badBlocksInode); number < firstInode; number++ {
		if number != rootInode {
			add(number, false)
		}
	}
	for _, n := range b.tree.nodes {
		add(n.number, n.isDir())
	}
	return all
}

// encodeGroups writes the bitmaps and returns the table of descriptors. Bitmaps
// are left out, and flagged as not initialized, where nothing is in use: for that
// the kernel wants checksums of the descriptors.
func (b *builder) encodeGroups() (sum counts, table []byte, err error) {
	inodes := b.usage()
	lazy := b.features.checksums()
	for index := range b.groups {
		g, on := b.pristine(index), bitmaps{}
		taken := b.blocks.takenIn(b.firstBlock(index), b.blocksIn(index))
		g.freeBlocks = b.blocksIn(index) - taken
		// The last group's bitmap is padded: it is never left out.
		if !lazy || !g.plain || taken != b.own(index) || index == b.groups-1 {
			on.blocks = b.blockBitmap(index)
			b.image.put(b.at(index).blockBitmap, on.blocks)
		}
		u := inodes[index]
		if u == nil && !lazy {
			u = b.newInodeUsage()
		}
		if u != nil {
			g.freeInodes, g.usedInodes, g.dirs, on.inodes = b.inodesPerGroup-u.count, u.last, u.dirs, u.bitmap
			b.image.put(b.at(index).inodeBitmap, on.inodes)
		}
		sum.freeBlocks += g.freeBlocks
		sum.freeInodes += uint64(g.freeInodes)
		d, err := b.descriptor(g, on)
		if err != nil {
			return sum, nil, err
		}
		table = append(table, d...)
	}
	return sum, table, nil
}

// encodeSupers writes the superblock and the descriptors, and their copies. The
// copies are those of a file system without files, as they would be had a kernel
// written the files, which leaves copies alone: e2fsck counts anew when it needs
// one. So they do not change with every file.
func (b *builder) encodeSupers(sum counts, table []byte) error {
	empty, copies := counts{}, []byte(nil)
	for index := range b.groups {
		g := b.pristine(index)
		d, err := b.copiedDescriptor(g)
		if err != nil {
			return err
		}
		copies = append(copies, d...)
		empty.freeBlocks += g.freeBlocks
		empty.freeInodes += uint64(g.freeInodes)
	}
	super, err := b.encodeSuperblock(b.superblock(sum), 0)
	if err != nil {
		return err
	}
	b.image.put(0, append(make([]byte, superblockOffset), super...))
	b.image.put(1, table)
	for group := uint32(1); group < b.groups; group++ {
		if !hasSuper(group) {
			continue
		}
		super, err := b.encodeSuperblock(b.superblock(empty), group)
		if err != nil {
			return err
		}
		b.image.put(b.firstBlock(group), super)
		b.image.put(b.firstBlock(group)+1, copies)
	}
	return nil
}
