// Package vhd writes and reads virtual hard disks in the format of Microsoft's
// Virtual PC, which Azure and XenServer import.
//
// What comes in is a disk's blocks, what goes out is a fixed VHD (the disk, byte
// for byte and sparse, with a footer behind it, as Azure wants it) or a dynamic
// one (a table of blocks of 2 MiB, zero ones left out); or the other way round.
// Files depend on the disk's content and the options alone. The writers hold a
// table of at most 4 MiB, the reader of 16 MiB.
//
// The layout follows "Virtual Hard Disk Image Format Specification", version
// 1.0, Microsoft, October 11, 2006; names in quotes are its sections and fields.
// Where QEMU and Hyper-V agree on something else, the comment says so.
package vhd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/raw"
)

// Format is the table row: any VHD can be read, fixed ones are written.
var Format = format.Format{
	Name: "vhd", Suffix: ".vhd",
	Probe: Probe,
	Open:  Open,
	New:   New, Revision: 1, SizeUnit: azureUnit, QEMU: "vpc",
}

// Probe reports whether the file of size bytes has a footer at its end, or the
// copy of one at its begin.
func Probe(r io.ReaderAt, size int64) (bool, error) {
	if size < footerSize {
		return false, nil
	}
	for _, offset := range []int64{size - footerSize, 0} {
		var cookie [len(footerCookie)]byte
		if err := readFull(r, cookie[:], offset); err != nil {
			return false, fmt.Errorf("look for a VHD footer: %w", err)
		}
		if string(cookie[:]) == footerCookie {
			return true, nil
		}
	}
	return false, nil
}

// Open reads a fixed or dynamic VHD of size bytes. The disk's size is the
// footer's Current Size whatever its geometry. Differencing disks are refused:
// their other half is another file.
func Open(r io.ReaderAt, size int64) (format.Source, error) {
	f, err := readFooter(r, size)
	if err != nil {
		return nil, err
	}
	switch f.DiskType {
	case diskFixed:
		return openFixed(r, size, f)
	case diskDynamic:
		return openDynamic(r, size, f)
	case diskDifferencing:
		return nil, errors.New("a differencing VHD holds only changes to another file; merge it first, for instance with Hyper-V's Merge-VHD")
	default:
		return nil, fmt.Errorf("VHD of unknown type %d: %w", f.DiskType, format.ErrCorrupt)
	}
}

// readFooter takes the footer at the end, or if that is damaged its copy at the
// begin, which dynamic disks have ("Dynamic Hard Disk Image").
func readFooter(r io.ReaderAt, size int64) (footer, error) {
	if size < footerSize {
		return footer{}, fmt.Errorf("a VHD of %d bytes has no room for its footer: %w", size, format.ErrCorrupt)
	}
	raw := make([]byte, footerSize)
	if err := readFull(r, raw, size-footerSize); err != nil {
		return footer{}, fmt.Errorf("read the footer: %w", err)
	}
	f, atEnd := decodeFooter(raw)
	if atEnd == nil {
		return f, nil
	}
	if err := readFull(r, raw, 0); err != nil {
		return footer{}, fmt.Errorf("read the footer's copy: %w", err)
	}
	f, atBegin := decodeFooter(raw)
	if atBegin != nil || f.DiskType == diskFixed {
		return footer{}, atEnd
	}
	return f, nil
}

// readFull reads all of p.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at byte %d: %w", len(p), offset, err)
}

// fixed is a raw disk with something behind it.
type fixed struct{ *raw.Disk }

func openFixed(r io.ReaderAt, size int64, f footer) (format.Source, error) {
	if int64(f.CurrentSize) > size-footerSize {
		return nil, fmt.Errorf("fixed VHD with a disk of %d bytes in a file of %d: %w", f.CurrentSize, size, format.ErrCorrupt)
	}
	disk, err := raw.Open(r, int64(f.CurrentSize))
	if err != nil {
		return nil, err
	}
	return fixed{disk}, nil
}

// NextData leaves out the footer.
func (d fixed) NextData(offset int64) (format.Extent, error) {
	extent, err := d.Disk.NextData(offset)
	if err == nil && extent.Offset >= d.Size() {
		return format.Extent{}, io.EOF
	}
	return extent, err
}

// dynamic is a disk in blocks.
type dynamic struct {
	r     io.ReaderAt
	size  int64    // bytes
	block int64    // bytes of disk in a block
	table []uint32 // where each block begins with its bitmap, in sectors of the file
}

func openDynamic(r io.ReaderAt, fileSize int64, f footer) (format.Source, error) {
	if f.DataOffset > uint64(fileSize)-footerSize {
		return nil, fmt.Errorf("the dynamic disk header at byte %d of a file of %d: %w", f.DataOffset, fileSize, format.ErrCorrupt)
	}
	raw := make([]byte, headerSize)
	if err := readFull(r, raw, int64(f.DataOffset)); err != nil {
		return nil, fmt.Errorf("read the dynamic disk header: %w", corruptAtEnd(err))
	}
	size := int64(f.CurrentSize)
	h, err := decodeHeader(raw, size)
	if err != nil {
		return nil, err
	}
	d := &dynamic{r: r, size: size, block: int64(h.BlockSize)}
	length := blocks(size, d.block) * entrySize
	if h.TableOffset > uint64(fileSize) || length > fileSize-int64(h.TableOffset) {
		return nil, fmt.Errorf("a block table of %d bytes at byte %d of a file of %d: %w",
			length, h.TableOffset, fileSize, format.ErrCorrupt)
	}
	if d.table, err = readTable(r, int64(h.TableOffset), length); err != nil {
		return nil, err
	}
	reserved := []format.Extent{
		{Offset: int64(f.DataOffset), Length: headerSize},
		{Offset: int64(h.TableOffset), Length: length},
	}
	return d, d.check(fileSize, reserved)
}

// corruptAtEnd marks the end of a file as damage of the image.
func corruptAtEnd(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.Join(err, format.ErrCorrupt)
	}
	return err
}

// readTable reads length bytes of table in pieces.
func readTable(r io.ReaderAt, offset, length int64) ([]uint32, error) {
	table := make([]uint32, 0, length/entrySize)
	for piece := make([]byte, 64<<10); length > 0; {
		piece = piece[:min(int64(len(piece)), length)]
		if err := readFull(r, piece, offset); err != nil {
			return nil, fmt.Errorf("read the block table: %w", corruptAtEnd(err))
		}
		for at := 0; at < len(piece); at += entrySize {
			table = append(table, binary.BigEndian.Uint32(piece[at:]))
		}
		offset += int64(len(piece))
		length -= int64(len(piece))
	}
	return table, nil
}

// check refuses blocks that overlap each other or the tables, or that the file
// of fileSize bytes does not hold.
func (d *dynamic) check(fileSize int64, reserved []format.Extent) error {
	stored := bitmapSize(d.block) + d.block
	starts := make([]uint32, 0, len(d.table))
	for i, sector := range d.table {
		if sector == unallocated {
			continue
		}
		at := format.Extent{Offset: int64(sector) * format.SectorSize, Length: stored}
		if at.End() > fileSize {
			return fmt.Errorf("block %d lies at byte %d of a file of %d: %w", i, at.Offset, fileSize, format.ErrCorrupt)
		}
		for _, other := range reserved {
			if at.Offset < other.End() && other.Offset < at.End() {
				return fmt.Errorf("block %d lies at byte %d, over the file's tables: %w", i, at.Offset, format.ErrCorrupt)
			}
		}
		starts = append(starts, sector)
	}
	slices.Sort(starts)
	for i := 1; i < len(starts); i++ {
		if int64(starts[i]-starts[i-1])*format.SectorSize < stored {
			return fmt.Errorf("two blocks overlap at byte %d of the file: %w", int64(starts[i])*format.SectorSize, format.ErrCorrupt)
		}
	}
	return nil
}

// Size is the disk's size in bytes.
func (d *dynamic) Size() int64 { return d.size }

// NextData returns runs of blocks that the file holds.
func (d *dynamic) NextData(offset int64) (format.Extent, error) {
	first := max(0, offset) / d.block
	for first < int64(len(d.table)) && d.table[first] == unallocated {
		first++
	}
	if first >= int64(len(d.table)) || offset >= d.size {
		return format.Extent{}, io.EOF
	}
	end := first + 1
	for end < int64(len(d.table)) && d.table[end] != unallocated {
		end++
	}
	start := max(offset, first*d.block)
	return format.Extent{Offset: start, Length: min(end*d.block, d.size) - start}, nil
}

// ReadAt reads the sectors that the blocks' bitmaps say are there; others are
// zero ("Mapping a Disk Sector to a Sector in the Block").
func (d *dynamic) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > d.size {
		return 0, fmt.Errorf("read at byte %d of a disk of %d", offset, d.size)
	}
	var atEnd error
	if rest := d.size - offset; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	done := 0
	for done < len(p) {
		within := offset % d.block
		part := p[done:min(int64(len(p)), int64(done)+d.block-within)]
		if err := d.readBlock(part, offset/d.block, within); err != nil {
			return done, err
		}
		done += len(part)
		offset += int64(len(part))
	}
	return done, atEnd
}

// readBlock reads p from byte within of one block.
func (d *dynamic) readBlock(p []byte, block, within int64) error {
	if d.table[block] == unallocated {
		clear(p)
		return nil
	}
	start := int64(d.table[block]) * format.SectorSize
	if err := readFull(d.r, p, start+bitmapSize(d.block)+within); err != nil {
		return fmt.Errorf("read block %d: %w", block, err)
	}
	firstSector := within / format.SectorSize
	lastSector := (within + int64(len(p)) - 1) / format.SectorSize
	bitmap := make([]byte, lastSector/8-firstSector/8+1)
	if err := readFull(d.r, bitmap, start+firstSector/8); err != nil {
		return fmt.Errorf("read the bitmap of block %d: %w", block, err)
	}
	for sector := firstSector; sector <= lastSector; sector++ {
		// The first sector is the highest bit.
		if bitmap[sector/8-firstSector/8]&(0x80>>(sector%8)) == 0 {
			from := max(0, sector*format.SectorSize-within)
			clear(p[from:min(int64(len(p)), (sector+1)*format.SectorSize-within)])
		}
	}
	return nil
}
