package ext4

import (
	"encoding/binary"
	"io/fs"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Fields of ext4_inode (inodes.rst, "Inode Table").
const (
	iMode        = 0x00
	iUID         = 0x02
	iSizeLo      = 0x04
	iAtime       = 0x08
	iCtime       = 0x0C
	iMtime       = 0x10
	iGID         = 0x18
	iLinksCount  = 0x1A
	iBlocksLo    = 0x1C
	iFlags       = 0x20
	iBlock       = 0x28
	iGeneration  = 0x64
	iFileACLLo   = 0x68
	iSizeHigh    = 0x6C
	iBlocksHigh  = 0x74
	iFileACLHigh = 0x76
	iUIDHigh     = 0x78
	iGIDHigh     = 0x7A
	iChecksumLo  = 0x7C
	iExtraIsize  = 0x80
	iChecksumHi  = 0x82
	iCtimeExtra  = 0x84
	iMtimeExtra  = 0x88
	iAtimeExtra  = 0x8C
	iCrtime      = 0x90
	iCrtimeExtra = 0x94

	iBlockSize = 60
)

// Values of i_mode and i_flags.
const (
	modeRegular = 0x8000 // S_IFREG
	modeSetUID  = 0o4000
	modeSetGID  = 0o2000
	modeSticky  = 0o1000

	flagIndex   = 0x1000  // EXT4_INDEX_FL
	flagExtents = 0x80000 // EXT4_EXTENTS_FL
)

var modeTypes = map[fs.FileMode]uint16{
	fs.ModeNamedPipe: 0x1000, fs.ModeDevice | fs.ModeCharDevice: 0x2000, fs.ModeDir: 0x4000,
	fs.ModeDevice: 0x6000, 0: modeRegular, fs.ModeSymlink: 0xA000, fs.ModeSocket: 0xC000,
}

// mode is i_mode.
func mode(m fs.FileMode) uint16 {
	out := modeTypes[m.Type()] | uint16(m.Perm())
	for _, bit := range []struct {
		set  fs.FileMode
		disk uint16
	}{{fs.ModeSetuid, modeSetUID}, {fs.ModeSetgid, modeSetGID}, {fs.ModeSticky, modeSticky}} {
		if m&bit.set != 0 {
			out |= bit.disk
		}
	}
	return out
}

// inodeSeed is what the checksums of a file's metadata start with: the number
// and the generation of its inode, which is zero here (checksums.rst).
func (b *builder) inodeSeed(number uint32) uint32 {
	return crc32c(b.seed, append(binary.LittleEndian.AppendUint32(nil, number), 0, 0, 0, 0))
}

// encodeNode writes a file's inode and all metadata that belongs to it.
func (b *builder) encodeNode(n *node) error {
	le := binary.LittleEndian
	inode := b.inodeRecord(n.number)
	le.PutUint16(inode[iMode:], mode(n.Mode))
	le.PutUint16(inode[iUID:], uint16(n.UID))
	le.PutUint16(inode[iUIDHigh:], uint16(n.UID>>16))
	le.PutUint16(inode[iGID:], uint16(n.GID))
	le.PutUint16(inode[iGIDHigh:], uint16(n.GID>>16))
	links := n.links
	if links > maxLinks {
		links = 1 // more than can be counted (inodes.rst, dir_nlink)
	}
	le.PutUint16(inode[iLinksCount:], uint16(links))
	b.stampInode(inode, n.ModTime)
	blocks := uint64(len(n.index))
	for _, o := range []*object{n.content, n.attributes} {
		if o != nil {
			blocks += o.length
		}
	}
	sectors := blocks * uint64(BlockSize/size.SectorSize)
	le.PutUint32(inode[iBlocksLo:], uint32(sectors))
	le.PutUint16(inode[iBlocksHigh:], uint16(sectors>>32))
	copy(inode[goodOldInodeSize+extraIsize:], n.inline)
	b.encodeAttributes(n, inode)
	b.encodeContent(n, inode)
	return nil
}

// encodeAttributes writes the block of extended attributes (attributes.rst).
func (b *builder) encodeAttributes(n *node, inode []byte) {
	if n.attributes == nil {
		return
	}
	le, at := binary.LittleEndian, n.attributes.extents[0].physical
	le.PutUint32(inode[iFileACLLo:], uint32(at))
	le.PutUint16(inode[iFileACLHigh:], uint16(at>>32))
	if b.features.checksums() {
		sum := crc32c(b.seed, le.AppendUint64(nil, at))
		le.PutUint32(n.block[xattrChecksum:], crc32c(sum, n.block))
	}
	b.image.put(at, n.block)
}

// encodeContent writes what i_block holds, and the blocks that it leads to.
func (b *builder) encodeContent(n *node, inode []byte) {
	le := binary.LittleEndian
	flags, length := uint32(0), n.size()
	switch {
	case n.isDir():
		data := b.encodeDirectory(n)
		length = int64(len(data))
		b.image.putObject(n.content, data)
		if n.layout.indexed {
			flags |= flagIndex
		}
	case n.Mode.Type() == fs.ModeSymlink && n.content == nil:
		copy(inode[iBlock:], n.Target)
		putSize(inode, length)
		return
	case n.Mode.Type() == fs.ModeSymlink:
		b.image.putObject(n.content, []byte(n.Target))
	case n.Mode.IsRegular():
		if n.content != nil && n.number != journalInode {
			b.image.putFile(n.content)
		}
	default:
		putDevice(inode[iBlock:], n.Entry)
		return
	}
	putSize(inode, length)
	b.encodeExtents(n, inode[iBlock:iBlock+iBlockSize])
	le.PutUint32(inode[iFlags:], flags|flagExtents)
}

func putSize(inode []byte, length int64) {
	binary.LittleEndian.PutUint32(inode[iSizeLo:], uint32(length))
	binary.LittleEndian.PutUint32(inode[iSizeHigh:], uint32(length>>32))
}

// putDevice writes a device's numbers as the kernel does (fs/ext4/ext4.h,
// ext4_iget and old_encode_dev, new_encode_dev).
func putDevice(block []byte, e *Entry) {
	if e.Mode.Type()&fs.ModeDevice == 0 {
		return
	}
	if e.Major < 256 && e.Minor < 256 {
		binary.LittleEndian.PutUint32(block, e.Major<<8|e.Minor)
		return
	}
	binary.LittleEndian.PutUint32(block[4:], e.Minor&0xFF|e.Major<<8|(e.Minor&^0xFF)<<12)
}

const (
	minTime = -1 << 31
	// maxTime is the last second that 32 bits and two more hold: in 2446.
	maxTime = 1<<34 - 1<<31 - 1
)

// stampInode gives an inode times that the host has no part in: modification,
// access and change are the entry's modification time unless that is newer than
// the epoch; the creation time is the epoch. A time has 32 signed bits of
// seconds; its extra field has two more bits of them below 30 bits of
// nanoseconds (inodes.rst, "Inode Timestamps").
func (b *builder) stampInode(inode []byte, modified time.Time) {
	if modified.After(b.Epoch) {
		modified = b.Epoch
	}
	put := func(field, extraField int, t time.Time) {
		seconds, nanoseconds := min(max(t.Unix(), minTime), maxTime), uint32(t.Nanosecond())
		extra := uint32((seconds-int64(int32(seconds)))>>32) & 3
		binary.LittleEndian.PutUint32(inode[field:], uint32(seconds))
		binary.LittleEndian.PutUint32(inode[extraField:], extra|nanoseconds<<2)
	}
	put(iMtime, iMtimeExtra, modified)
	put(iAtime, iAtimeExtra, modified)
	put(iCtime, iCtimeExtra, modified)
	put(iCrtime, iCrtimeExtra, b.Epoch)
	binary.LittleEndian.PutUint16(inode[iExtraIsize:], extraIsize)
}

// sealInode computes the inode's checksum (checksums.rst).
func (b *builder) sealInode(inode []byte, number uint32) {
	sum := crc32c(b.inodeSeed(number), inode)
	binary.LittleEndian.PutUint16(inode[iChecksumLo:], uint16(sum))
	if binary.LittleEndian.Uint16(inode[iExtraIsize:]) > 0 {
		binary.LittleEndian.PutUint16(inode[iChecksumHi:], uint16(sum>>16))
	}
}
