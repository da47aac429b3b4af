package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// Fields and flags of an inode (inodes.rst).
const (
	iBlock     = 0x28
	iBlockSize = 60

	flagExtents    = 0x80000
	flagInlineData = 0x10000000

	// maxDirectory is more than any directory of an image has; it bounds the
	// memory for one.
	maxDirectory = 64 << 20
	// maxTarget is the kernel's PATH_MAX.
	maxTarget = 4096
)

// inode is one file. raw is its record in the inode table.
type inode struct {
	fs     *FS
	number uint32
	raw    []byte
}

func (i *inode) mode() uint16  { return le.Uint16(i.raw) }
func (i *inode) flags() uint32 { return le.Uint32(i.raw[0x20:]) }
func (i *inode) size() int64 {
	n := uint64(le.Uint32(i.raw[0x4:])) | uint64(le.Uint32(i.raw[0x6C:]))<<32
	return int64(min(n, 1<<62))
}

// fileType has the type bits of i_mode as Go writes them.
var fileType = map[uint16]fs.FileMode{
	0x1000: fs.ModeNamedPipe,
	0x2000: fs.ModeDevice | fs.ModeCharDevice,
	0x4000: fs.ModeDir,
	0x6000: fs.ModeDevice,
	0x8000: 0,
	0xA000: fs.ModeSymlink,
	0xC000: fs.ModeSocket,
}

// Stat implements volume.Node.
func (i *inode) Stat() volume.Stat {
	m := i.mode()
	kind, known := fileType[m&0xF000]
	if !known {
		kind = fs.ModeIrregular
	}
	mode := kind | fs.FileMode(m&0o777)
	for bit, set := range map[uint16]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= set
		}
	}
	major, minor := i.device()
	return volume.Stat{
		Mode:  mode,
		Size:  i.size(),
		UID:   uint32(le.Uint16(i.raw[0x2:])) | uint32(le.Uint16(i.raw[0x78:]))<<16,
		GID:   uint32(le.Uint16(i.raw[0x18:])) | uint32(le.Uint16(i.raw[0x7A:]))<<16,
		Links: uint32(le.Uint16(i.raw[0x1A:])),
		Major: major, Minor: minor,
		Inode:   uint64(i.number),
		ModTime: i.modTime(),
	}
}

// modTime is i_mtime, with two more bits of seconds and the nanoseconds from
// i_mtime_extra if the inode is large enough to have it.
func (i *inode) modTime() time.Time {
	const mtime, mtimeExtra = 0x10, 0x88
	seconds, nanoseconds := int64(int32(le.Uint32(i.raw[mtime:]))), int64(0)
	if len(i.raw) > goodOldInode+2 && goodOldInode+int(le.Uint16(i.raw[goodOldInode:])) >= mtimeExtra+4 {
		extra := le.Uint32(i.raw[mtimeExtra:])
		seconds, nanoseconds = seconds+int64(extra&3)<<32, int64(extra>>2)
	}
	return time.Unix(seconds, nanoseconds).UTC()
}

// device decodes the number of a device: the old encoding is in the first word
// of i_block, the new one in the second (fs/ext4/inode.c, ext4_iget).
func (i *inode) device() (major, minor uint32) {
	if kind := i.mode() & 0xF000; kind != 0x2000 && kind != 0x6000 {
		return 0, 0
	}
	if old := le.Uint32(i.raw[iBlock:]); old != 0 {
		return old >> 8 & 0xFF, old & 0xFF
	}
	d := le.Uint32(i.raw[iBlock+4:])
	return d & 0xFFF00 >> 8, d&0xFF | d>>12&0xFFF00
}

// Target implements volume.Node.
func (i *inode) Target() (string, error) {
	if i.mode()&0xF000 != 0xA000 {
		return "", fmt.Errorf("ext4: inode %d is no symbolic link", i.number)
	}
	size := i.size()
	if size > maxTarget {
		return "", fmt.Errorf("ext4: inode %d: a link target of %d bytes", i.number, size)
	}
	// A fast symlink keeps its target where other files have their block map.
	if size < iBlockSize && i.flags()&(flagExtents|flagInlineData) == 0 {
		return string(i.raw[iBlock : iBlock+size]), nil
	}
	content, err := i.content()
	if err != nil {
		return "", err
	}
	target := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(content, 0, size), target); err != nil {
		return "", fmt.Errorf("ext4: inode %d: read link: %w", i.number, err)
	}
	return string(target), nil
}

// Content implements volume.Node.
func (i *inode) Content() (io.ReaderAt, error) {
	if i.mode()&0xF000 != 0x8000 {
		return nil, fmt.Errorf("ext4: inode %d is no regular file", i.number)
	}
	return i.content()
}

// content is what any kind of inode with data has in it.
func (i *inode) content() (io.ReaderAt, error) {
	if i.flags()&flagInlineData != 0 {
		data, err := i.inlineData()
		if err != nil {
			return nil, err
		}
		return bytes.NewReader(data[:min(int64(len(data)), i.size())]), nil
	}
	return &file{fs: i.fs, size: i.size(), blocks: i.blockMap()}, nil
}

func (i *inode) blockMap() blockMap {
	if i.flags()&flagExtents != 0 {
		return &extents{fs: i.fs, root: i.raw[iBlock : iBlock+iBlockSize]}
	}
	return &indirect{fs: i.fs, root: i.raw[iBlock : iBlock+iBlockSize]}
}

// inlineData returns i_block and, what did not fit there, the attribute
// system.data (ifork.rst, "Inline Data").
func (i *inode) inlineData() ([]byte, error) {
	data := bytes.Clone(i.raw[iBlock : iBlock+iBlockSize])
	attributes, err := i.attributes()
	if err != nil {
		return nil, err
	}
	return append(data, attributes[inlineAttribute]...), nil
}

// Entries implements volume.Node. Directories with a hash tree are read as the
// list of blocks that they also are.
func (i *inode) Entries() ([]volume.Entry, error) {
	if i.mode()&0xF000 != 0x4000 {
		return nil, fmt.Errorf("ext4: inode %d is no directory", i.number)
	}
	if i.flags()&flagInlineData != 0 {
		data, err := i.inlineData()
		if err != nil {
			return nil, err
		}
		const parent = 4 // the number of the directory above comes first
		entries, err := i.parse(nil, data[parent:iBlockSize])
		if err != nil || len(data) == iBlockSize {
			return entries, err
		}
		return i.parse(entries, data[iBlockSize:])
	}
	size := i.size()
	if size > maxDirectory || size%i.fs.blockSize != 0 {
		return nil, fmt.Errorf("ext4: directory %d has %d bytes", i.number, size)
	}
	content, err := i.content()
	if err != nil {
		return nil, err
	}
	var entries []volume.Entry
	block := make([]byte, i.fs.blockSize)
	for at := int64(0); at < size; at += i.fs.blockSize {
		if _, err := content.ReadAt(block, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("ext4: directory %d: %w", i.number, err)
		}
		if entries, err = i.parse(entries, block); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// parse appends the entries of one directory block (directory.rst). A hole,
// which reads as zeros, has none.
func (i *inode) parse(entries []volume.Entry, block []byte) ([]volume.Entry, error) {
	for len(block) >= 8 {
		number, length, nameLength := le.Uint32(block), int(le.Uint16(block[4:])), int(block[6])
		if length == 0 && number == 0 {
			return entries, nil
		}
		if length == 65535 || length == 0 { // a whole block of 64 KiB
			length = len(block)
		}
		if length < 8 || length > len(block) || 8+nameLength > length {
			return nil, fmt.Errorf("ext4: directory %d is damaged", i.number)
		}
		name := string(block[8 : 8+nameLength])
		if number != 0 && name != "." && name != ".." {
			entries = append(entries, volume.Entry{Name: name, Open: func() (volume.Node, error) { return i.fs.inode(number) }})
		}
		block = block[length:]
	}
	return entries, nil
}
