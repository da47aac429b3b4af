package ext4

import (
	"encoding/binary"
	"errors"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// special are the files that belong to the file system itself.
type special struct {
	// journal is the journal's content; nil without one.
	journal *node
	// resize is the block that leads to the blocks kept for more group
	// descriptors; 0 without any.
	resize uint64
}

// placeSpecial finds blocks for them: the journal in one piece, if it can be.
func (b *builder) placeSpecial(a *allocator) (*special, error) {
	s := &special{}
	if b.reservedGDT > 0 {
		start, found := a.contiguous(1)
		if !found {
			return nil, full("blocks")
		}
		a.take(start, 1)
		s.resize = start
	}
	if b.journal == 0 {
		return s, nil
	}
	s.journal = &node{Entry: &Entry{Path: "the journal", Mode: 0o600, ModTime: b.Epoch, Content: zeros(b.journal * uint64(blockSize))}, number: journalInode, links: 1}
	journal, err := newObject(s.journal, []Range{{0, s.journal.size()}})
	if err != nil {
		return nil, err
	}
	s.journal.content = journal
	start, _ := a.contiguous(b.journal)
	if !a.fill(journal, start) || !b.placeIndex(a, []*object{journal}) {
		return nil, full("blocks")
	}
	return s, nil
}

// zeros is Content that is never read: what a new file system's journal holds.
type zeros uint64

// Size implements Content.
func (z zeros) Size() int64 { return int64(z) }

// Open implements Content.
func (z zeros) Open() (ReadAtCloser, error) { return nil, errNeverRead }

var errNeverRead = errors.New("content that is never read was read")

// journalSuperblock is journal_superblock_s (journal.rst, "Super Block"), big
// endian, as far as it is not zero.
type journalSuperblock struct {
	magic     uint32 // h_magic
	blockType uint32 // h_blocktype
	sequence  uint32 // h_sequence
	blockSize uint32 // s_blocksize
	maxLen    uint32 // s_maxlen
	first     uint32 // s_first
	nextID    uint32 // s_sequence
	start     uint32 // s_start: zero is an empty journal
	errno     int32
	compat    uint32
	incompat  uint32
	roCompat  uint32
	uuid      [16]byte
	users     uint32 // s_nr_users
}

const (
	journalMagic        = 0xC03B3998
	journalSuperblockV2 = 4
)

// encodeJournal writes the journal's superblock and its inode.
func (b *builder) encodeJournal() error {
	j := b.special.journal
	if j == nil {
		return nil
	}
	super, err := binary.Append(nil, binary.BigEndian, journalSuperblock{
		magic: journalMagic, blockType: journalSuperblockV2, blockSize: uint32(blockSize), maxLen: uint32(b.journal),
		first: 1, nextID: 1, uuid: b.UUID, users: 1,
	})
	if err != nil {
		return err
	}
	b.image.put(j.content.extents[0].physical, super)
	return b.encodeNode(j)
}

// encodeResize writes the resize inode: its double-indirect block leads to the
// blocks kept for group descriptors in group 0, and each of them to the blocks
// with the same use in the other groups (blockgroup.rst, "Meta Block Groups";
// libext2fs, res_gdt.c).
func (b *builder) encodeResize() {
	if b.special.resize == 0 {
		return
	}
	const perBlock = uint64(blockSize / 4) // block numbers in a block
	le := binary.LittleEndian
	double, blocks := make([]byte, blockSize), uint64(1)
	for i := range b.reservedGDT {
		block := 1 + b.descBlocks + i
		le.PutUint32(double[(b.descBlocks+i)%perBlock*4:], uint32(block))
		blocks++
		var backups []byte
		for group := uint32(1); group < b.groups; group++ {
			if hasSuper(group) {
				backups = le.AppendUint32(backups, uint32(b.firstBlock(group)+block))
				blocks++
			}
		}
		b.image.put(block, backups)
	}
	b.image.put(b.special.resize, double)
	inode := b.inodeRecord(resizeInode)
	b.stampInode(inode, b.Epoch)
	le.PutUint16(inode[iMode:], modeRegular|0o600)
	le.PutUint16(inode[iLinksCount:], 1)
	putSize(inode, int64((perBlock*perBlock+perBlock+directBlocks)*uint64(blockSize)))
	le.PutUint32(inode[iBlocksLo:], uint32(blocks*uint64(BlockSize/size.SectorSize)))
	le.PutUint32(inode[iBlock+(directBlocks+1)*4:], uint32(b.special.resize))
}

// directBlocks is the number of direct block numbers in an inode (ifork.rst,
// "Direct/Indirect Block Addressing").
const directBlocks = 12
