package vhd

import (
	"encoding/binary"
	"fmt"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
)

// The sizes of the structures, in bytes.
const (
	footerSize = 512  // specification, "Hard Disk Footer Format"
	headerSize = 1024 // "Dynamic Disk Header Format"
	entrySize  = 4    // "Block Allocation Table and Data Blocks"
)

// MaxSize is the largest disk, in bytes: 2 TiB, what 32-bit sector numbers
// reach and what Azure takes as a disk that boots by BIOS.
const MaxSize = 2 << 40

// maxDynamic is the largest disk of a dynamic file, in bytes: 2040 GiB, because
// the table's 32-bit sector numbers have to reach the last block's end behind
// all tables and bitmaps. Hyper-V and QEMU have the same limit.
const maxDynamic = 2040 << 30

// Values of the footer's and the header's fields.
const (
	footerCookie = "conectix"
	headerCookie = "cxsparse"

	featureReserved = 2          // "this bit must always be set to 1"
	version1        = 0x00010000 // of the file format and of the header

	// The specification says 0xFFFFFFFF for "no next structure", but the field
	// has 64 bits, and Microsoft's own programs set them all.
	noOffset = 1<<64 - 1

	diskFixed        = 2
	diskDynamic      = 3
	diskDifferencing = 4

	unallocated = 1<<32 - 1 // a table entry without a block

	// blockSize is the specification's default, in bytes.
	blockSize = 2 << 20
)

// creator names who wrote the file: ours, in the fields that the specification
// leaves to the creator. It knows two host systems, Windows and Macintosh; all
// others say Windows.
var creator = struct {
	application [4]byte
	version     uint32
	host        [4]byte
}{[4]byte{'n', 'o', 'd', 's'}, version1, [4]byte{'W', 'i', '2', 'k'}}

// epoch is where the format's time stamps begin ("Time Stamp").
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// footer is the structure at the end of every file, and at the begin of dynamic
// ones, in big-endian order.
type footer struct {
	Cookie             [8]byte
	Features           uint32
	Version            uint32
	DataOffset         uint64 // of the header, in bytes; noOffset for fixed disks
	TimeStamp          uint32 // seconds since epoch
	CreatorApplication [4]byte
	CreatorVersion     uint32
	CreatorHost        [4]byte
	OriginalSize       uint64 // bytes
	CurrentSize        uint64 // bytes
	Geometry           geometry
	DiskType           uint32
	Checksum           uint32
	UniqueID           [16]byte
	SavedState         uint8
	_                  [427]byte
}

type geometry struct {
	Cylinders uint16
	Heads     uint8
	Sectors   uint8 // per track
}

// maxGeometry is the geometry of every disk written here. The specification's
// appendix computes one from the size, but rounds the size down by that, and
// there are readers that take the product for the disk's size and cut off the
// backup partition table. The largest geometry tells all of them to look at
// CurrentSize; qemu-img's force_size, which Azure's guides ask for, does the
// same.
var maxGeometry = geometry{Cylinders: 65535, Heads: 16, Sectors: 255}

// header is the dynamic disk header, in big-endian order.
type header struct {
	Cookie          [8]byte
	DataOffset      uint64 // noOffset
	TableOffset     uint64 // of the block allocation table, in bytes
	Version         uint32
	MaxTableEntries uint32
	BlockSize       uint32 // bytes of disk in a block
	Checksum        uint32
	ParentID        [16]byte // this and the rest is for differencing disks
	ParentTimeStamp uint32
	_               uint32
	ParentName      [512]byte
	ParentLocators  [8][24]byte
	_               [256]byte
}

// checksumOffset is where the checksum lies in the footer and in the header.
const (
	footerChecksumOffset = 64
	headerChecksumOffset = 36
)

// checksum is the one's complement of the sum of all bytes but the checksum's
// own ("Checksum").
func checksum(raw []byte, checksumOffset int) uint32 {
	var sum uint32
	for i, b := range raw {
		if i < checksumOffset || i >= checksumOffset+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// encode returns the structure's bytes with the checksum in its place.
func encode(structure any, checksumOffset int) ([]byte, error) {
	raw, err := binary.Append(nil, binary.BigEndian, structure)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", structure, err)
	}
	binary.BigEndian.PutUint32(raw[checksumOffset:], checksum(raw, checksumOffset))
	return raw, nil
}

// decodeFooter checks all that a reader relies on.
func decodeFooter(raw []byte) (footer, error) {
	var f footer
	if _, err := binary.Decode(raw, binary.BigEndian, &f); err != nil {
		return f, fmt.Errorf("decode the footer: %w", err)
	}
	switch {
	case string(f.Cookie[:]) != footerCookie:
		return f, fmt.Errorf("no footer: %w", format.ErrCorrupt)
	case f.Checksum != checksum(raw, footerChecksumOffset):
		return f, fmt.Errorf("the footer's checksum is %#x, its bytes give %#x: %w",
			f.Checksum, checksum(raw, footerChecksumOffset), format.ErrCorrupt)
	case f.Version>>16 != version1>>16:
		return f, fmt.Errorf("version %#x of the VHD format is not known", f.Version)
	case f.CurrentSize > MaxSize || f.CurrentSize%format.SectorSize != 0:
		return f, fmt.Errorf("a disk of %d bytes, not whole sectors up to %d bytes: %w",
			f.CurrentSize, int64(MaxSize), format.ErrCorrupt)
	}
	return f, nil
}

// maxEntries bounds the table that a reader holds, in blocks: 16 MiB of table,
// enough for MaxSize in blocks of 512 KiB.
const maxEntries = 4 << 20

// decodeHeader checks all that a reader of a disk of size bytes relies on.
func decodeHeader(raw []byte, size int64) (header, error) {
	var h header
	if _, err := binary.Decode(raw, binary.BigEndian, &h); err != nil {
		return h, fmt.Errorf("decode the dynamic disk header: %w", err)
	}
	block := int64(h.BlockSize)
	switch {
	case string(h.Cookie[:]) != headerCookie:
		return h, fmt.Errorf("no dynamic disk header where the footer says: %w", format.ErrCorrupt)
	case h.Checksum != checksum(raw, headerChecksumOffset):
		return h, fmt.Errorf("the dynamic disk header's checksum is %#x, its bytes give %#x: %w",
			h.Checksum, checksum(raw, headerChecksumOffset), format.ErrCorrupt)
	case h.Version>>16 != version1>>16:
		return h, fmt.Errorf("version %#x of the dynamic disk header is not known", h.Version)
	case block < format.SectorSize || block&(block-1) != 0:
		return h, fmt.Errorf("blocks of %d bytes, no power of two of sectors: %w", block, format.ErrCorrupt)
	case int64(h.MaxTableEntries) < blocks(size, block):
		return h, fmt.Errorf("a table of %d blocks of %d bytes for a disk of %d: %w",
			h.MaxTableEntries, block, size, format.ErrCorrupt)
	case blocks(size, block) > maxEntries:
		return h, fmt.Errorf("a disk of %d bytes in blocks of %d: at most %d blocks are handled; qemu-img convert -O vpc writes larger ones",
			size, block, maxEntries)
	}
	return h, nil
}

// blocks is how many blocks hold size bytes.
func blocks(size, block int64) int64 { return (size + block - 1) / block }

// bitmapSize is the length of a block's sector bitmap, in bytes: a bit for each
// sector, filled up to whole sectors.
func bitmapSize(block int64) int64 {
	return alignUp(blocks(block/format.SectorSize, 8), format.SectorSize)
}

func alignUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
