package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Extended attributes (attributes.rst, "Extended Attributes").
const (
	xattrMagic       = 0xEA020000
	xattrEntrySize   = 16
	xattrBlockHeader = 32
	xattrChecksum    = 16 // offset of h_checksum
	extraIsize       = 32
	goodOldInodeSize = 128
	// inlineXattrs is the room that an inode has for them, behind their magic.
	inlineXattrs    = inodeSize - goodOldInodeSize - extraIsize - 4
	nameHashShift   = 5
	valueHashShift  = 16
	xattrUnit       = 4
	maxXattrName    = 255
	aclAccess       = "system.posix_acl_access"
	aclDefault      = "system.posix_acl_default"
	aclXattrVersion = 2
	aclDiskVersion  = 1
)

// xattrPrefixes are e_name_index and what it stands for.
var xattrPrefixes = []struct {
	prefix string
	index  byte
}{
	{aclAccess, 2}, {aclDefault, 3}, {"user.", 1}, {"trusted.", 4}, {"security.", 6}, {"system.", 7},
}

// xattr is an attribute as it lies on the disk.
type xattr struct {
	index byte
	name  string
	value []byte
}

func (x xattr) entry() int { return xattrEntrySize + align(len(x.name), xattrUnit) }
func (x xattr) room() int  { return x.entry() + align(len(x.value), xattrUnit) }

func align(n, unit int) int { return (n + unit - 1) / unit * unit }

// encodeXattrs lays attributes out: as many as fit in the inode, the others in a
// block. Each of both is nil when it is not needed.
func encodeXattrs(attributes map[string]string) (inline, block []byte, err error) {
	if len(attributes) == 0 {
		return nil, nil, nil
	}
	var inInode, inBlock []xattr
	inodeRoom, blockRoom := inlineXattrs-xattrUnit, blockSize-xattrBlockHeader-xattrUnit // less the end mark
	for _, full := range slices.Sorted(maps.Keys(attributes)) {
		x, err := newXattr(full, attributes[full])
		if err != nil {
			return nil, nil, err
		}
		switch {
		case x.room() <= inodeRoom:
			inInode = append(inInode, x)
			inodeRoom -= x.room()
		case x.room() <= blockRoom:
			inBlock = append(inBlock, x)
			blockRoom -= x.room()
		default:
			return nil, nil, fmt.Errorf("the extended attribute %s and the others do not fit in one block", full)
		}
	}
	if len(inInode) > 0 {
		inline = make([]byte, xattrUnit+inlineXattrs)
		binary.LittleEndian.PutUint32(inline, xattrMagic)
		putXattrs(inline[xattrUnit:], 0, inInode)
	}
	if len(inBlock) > 0 {
		block = encodeXattrBlock(inBlock)
	}
	return inline, block, nil
}

// encodeXattrBlock makes the block, all but its checksum.
func encodeXattrBlock(attributes []xattr) []byte {
	// The kernel searches blocks in this order.
	slices.SortFunc(attributes, func(a, b xattr) int {
		if a.index != b.index {
			return int(a.index) - int(b.index)
		}
		if len(a.name) != len(b.name) {
			return len(a.name) - len(b.name)
		}
		return strings.Compare(a.name, b.name)
	})
	block := make([]byte, blockSize)
	hash := putXattrs(block, xattrBlockHeader, attributes)
	for at, value := range []uint32{xattrMagic, 1 /* h_refcount */, 1 /* h_blocks */, hash} {
		binary.LittleEndian.PutUint32(block[at*4:], value)
	}
	return block
}

// putXattrs writes entries from start on and values at the end, and returns the
// hash of all entries.
func putXattrs(area []byte, start int, attributes []xattr) (hash uint32) {
	le := binary.LittleEndian
	at, end := start, len(area)
	for _, x := range attributes {
		end -= align(len(x.value), xattrUnit)
		area[at], area[at+1] = byte(len(x.name)), x.index
		if len(x.value) > 0 {
			le.PutUint16(area[at+2:], uint16(end)) // e_value_offs
		}
		le.PutUint32(area[at+8:], uint32(len(x.value))) // e_value_size
		h := x.hash()
		le.PutUint32(area[at+12:], h) // e_hash
		copy(area[at+xattrEntrySize:], x.name)
		copy(area[end:], x.value)
		at += x.entry()
		hash = hash<<valueHashShift ^ hash>>(32-valueHashShift) ^ h
	}
	return hash
}

func (x xattr) hash() (h uint32) {
	for _, c := range []byte(x.name) {
		h = h<<nameHashShift ^ h>>(32-nameHashShift) ^ uint32(c)
	}
	padded := make([]byte, align(len(x.value), xattrUnit))
	copy(padded, x.value)
	for ; len(padded) > 0; padded = padded[xattrUnit:] {
		h = h<<valueHashShift ^ h>>(32-valueHashShift) ^ binary.LittleEndian.Uint32(padded)
	}
	return h
}

func newXattr(full, value string) (xattr, error) {
	for _, p := range xattrPrefixes {
		name, ok := strings.CutPrefix(full, p.prefix)
		if !ok {
			continue
		}
		x := xattr{index: p.index, name: name, value: []byte(value)}
		switch {
		case full == aclAccess || full == aclDefault:
			var err error
			if x.value, err = diskACL(x.value); err != nil {
				return x, fmt.Errorf("%s: %w", full, err)
			}
		case name == "" && strings.HasSuffix(p.prefix, "."), len(name) > maxXattrName, strings.ContainsRune(name, 0):
			return x, fmt.Errorf("%q is not the name of an extended attribute", full)
		}
		return x, nil
	}
	return xattr{}, fmt.Errorf("ext4 has no extended attributes like %q", full)
}

// diskACL turns an access control list from the form of the system calls
// (include/uapi/linux/posix_acl_xattr.h) into that of the disk (fs/ext4/acl.h),
// in which only named users and groups have a number.
func diskACL(value []byte) ([]byte, error) {
	const header, entry, namedUser, namedGroup = 4, 8, 0x02, 0x08
	le := binary.LittleEndian
	if len(value) < header || (len(value)-header)%entry != 0 || le.Uint32(value) != aclXattrVersion {
		return nil, errors.New("not an access control list")
	}
	disk := le.AppendUint32(nil, aclDiskVersion)
	for value = value[header:]; len(value) > 0; value = value[entry:] {
		disk = append(disk, value[:4]...) // tag and permissions
		if tag := le.Uint16(value); tag == namedUser || tag == namedGroup {
			disk = append(disk, value[4:8]...)
		}
	}
	return disk, nil
}
