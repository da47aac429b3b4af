package ext4

import (
	"fmt"
	"io"
)

// Extended attributes (attributes.rst).
const (
	xattrMagic      = 0xEA020000
	xattrHeader     = 32 // of a block of attributes
	xattrEntry      = 16
	xattrValueLimit = 64 << 10 // XATTR_SIZE_MAX
	goodOldInode    = 128
	inlineAttribute = "system.data"
)

// xattrPrefix maps e_name_index to what a name starts with.
var xattrPrefix = map[byte]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default",
	4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}

// Xattrs implements volume.Node.
func (i *inode) Xattrs() (map[string]string, error) {
	out, err := i.attributes()
	delete(out, inlineAttribute) // content, not an attribute that anybody set
	return out, err
}

// attributes reads the attributes behind the inode's fields and those in a
// block of their own.
func (i *inode) attributes() (map[string]string, error) {
	out := map[string]string{}
	if len(i.raw) > goodOldInode+2 {
		start := goodOldInode + int(le.Uint16(i.raw[goodOldInode:])) // i_extra_isize
		if start+4 <= len(i.raw) && le.Uint32(i.raw[start:]) == xattrMagic {
			area := i.raw[start+4:]
			if err := i.attributeList(out, area, area); err != nil {
				return nil, err
			}
		}
	}
	number := uint64(le.Uint32(i.raw[0x68:])) | uint64(le.Uint16(i.raw[0x76:]))<<32 // i_file_acl
	if number == 0 {
		return out, nil
	}
	block, err := i.fs.readBlock(number)
	if err != nil {
		return nil, err
	}
	if le.Uint32(block) != xattrMagic {
		return nil, fmt.Errorf("ext4: inode %d: block %d holds no attributes", i.number, number)
	}
	return out, i.attributeList(out, block[xattrHeader:], block)
}

// attributeList reads entries; the values' offsets count from the start of values.
func (i *inode) attributeList(out map[string]string, entries, values []byte) error {
	damaged := fmt.Errorf("ext4: the attributes of inode %d are damaged", i.number)
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < xattrEntry {
			return damaged
		}
		nameLength, offset := int(entries[0]), int(le.Uint16(entries[2:]))
		valueInode, size := le.Uint32(entries[4:]), int64(le.Uint32(entries[8:]))
		if xattrEntry+nameLength > len(entries) || size > xattrValueLimit {
			return damaged
		}
		name := xattrPrefix[entries[1]] + string(entries[xattrEntry:xattrEntry+nameLength])
		switch {
		case valueInode != 0:
			value, err := i.valueOf(valueInode, size)
			if err != nil {
				return err
			}
			out[name] = value
		case int64(offset)+size > int64(len(values)):
			return damaged
		default:
			out[name] = string(values[offset : int64(offset)+size])
		}
		entries = entries[min((xattrEntry+nameLength+3)&^3, len(entries)):]
	}
	return nil
}

// valueOf reads a value that has an inode of its own (feature ea_inode).
func (i *inode) valueOf(number uint32, size int64) (string, error) {
	holder, err := i.fs.inode(number)
	if err != nil {
		return "", err
	}
	// Inline data is refused: its own attributes could name this inode again.
	if holder.flags()&flagInlineData != 0 {
		return "", fmt.Errorf("ext4: inode %d cannot hold an attribute's value", number)
	}
	content, err := holder.content()
	if err != nil {
		return "", err
	}
	value := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(content, 0, size), value); err != nil {
		return "", fmt.Errorf("ext4: attribute in inode %d: %w", number, err)
	}
	return string(value), nil
}
