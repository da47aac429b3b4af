package gce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"nodesmith.dev/nodesmith/internal/format"
)

// tarBlock is the unit of a tar archive, in bytes, and tarRecord the unit that
// GNU tar fills archives up to.
const (
	tarBlock  = 512
	tarRecord = 20 * tarBlock
)

// memberName is the only name that Compute Engine takes.
const memberName = "disk.raw"

// Types of members (typeflag).
const (
	typeSparse  = 'S' // GNUTYPE_SPARSE
	typeRegular = '0' // REGTYPE
	typeOld     = 0   // AREGTYPE
)

// magic is OLDGNU_MAGIC, magic and version in one.
const magic = "ustar  \x00"

// The number of sparse entries in a header and in each extension block
// (SPARSES_IN_OLDGNU_HEADER, SPARSES_IN_SPARSE_HEADER).
const (
	entriesInHeader    = 4
	entriesInExtension = 21
)

// number is a tar number: octal digits up to a NUL or space or, with the first
// byte's highest bit set, big-endian binary digits.
type number [12]byte

// entry is a struct sparse: a range of the file that the archive holds.
type entry struct{ Offset, Length number }

// tarHeader is a struct oldgnu_header over a posix_header, as GNU tar's manual
// gives them in "Basic Tar Format".
type tarHeader struct {
	Name     [100]byte
	Mode     [8]byte
	UID      [8]byte
	GID      [8]byte
	Size     number // bytes of the member in the archive
	Time     number
	Checksum [8]byte
	Type     byte
	Link     [100]byte
	Magic    [8]byte
	User     [32]byte
	Group    [32]byte
	Device   [16]byte
	_        [41]byte // access and change time, multi-volume offset, long names
	Entries  [entriesInHeader]entry
	Extended byte   // more entries in an extension block
	RealSize number // bytes of the file
	_        [17]byte
}

// checksumOffset is where the header's checksum lies; it counts as spaces.
const checksumOffset = 148

// extension is a struct sparse_header.
type extension struct {
	Entries  [entriesInExtension]entry
	Extended byte
	_        [7]byte
}

// headerSize is how many bytes a member's header takes with its extensions.
func headerSize(entries int) int64 {
	blocks := 1 + (max(0, entries-entriesInHeader)+entriesInExtension-1)/entriesInExtension
	return int64(blocks) * tarBlock
}

// encodeHeader returns the header of a sparse member of size bytes with data in
// the extents.
func encodeHeader(extents []format.Extent, size int64) ([]byte, error) {
	var stored int64
	for _, e := range extents {
		stored += e.Length
	}
	if len(extents) == 0 || extents[len(extents)-1].End() < size {
		// An entry of no bytes at the file's end stands for the last hole.
		extents = append(extents[:len(extents):len(extents)], format.Extent{Offset: size})
	}
	h := tarHeader{
		Size: newNumber(stored), Type: typeSparse, RealSize: newNumber(size), Time: newNumber(0),
	}
	copy(h.Name[:], memberName)
	copy(h.Mode[:], "0000644")
	copy(h.UID[:], "0000000")
	copy(h.GID[:], "0000000")
	copy(h.Magic[:], magic)
	copy(h.User[:], "root")
	copy(h.Group[:], "root")
	rest := fill(h.Entries[:], &h.Extended, extents)
	raw, err := binary.Append(nil, binary.BigEndian, &h)
	if err != nil {
		return nil, fmt.Errorf("encode the tar header: %w", err)
	}
	copy(raw[checksumOffset:], fmt.Sprintf("%06o\x00 ", headerSum(raw)))
	for len(rest) > 0 {
		var x extension
		rest = fill(x.Entries[:], &x.Extended, rest)
		if raw, err = binary.Append(raw, binary.BigEndian, &x); err != nil {
			return nil, fmt.Errorf("encode the tar header's extension: %w", err)
		}
	}
	return raw, nil
}

// fill puts as many extents as fit into entries, and returns the others.
func fill(entries []entry, extended *byte, extents []format.Extent) []format.Extent {
	n := min(len(entries), len(extents))
	for i, e := range extents[:n] {
		entries[i] = entry{newNumber(e.Offset), newNumber(e.Length)}
	}
	if len(extents) > n {
		*extended = 1
	}
	return extents[n:]
}

// headerSum is the sum of the header's bytes with spaces as its checksum.
func headerSum(raw []byte) int64 {
	var sum int64
	for i, b := range raw[:tarBlock] {
		if i >= checksumOffset && i < checksumOffset+8 {
			b = ' '
		}
		sum += int64(b)
	}
	return sum
}

// newNumber writes octal digits where they fit, that is below 8 GiB.
func newNumber(n int64) number {
	var field number
	if n < 1<<33 {
		copy(field[:], fmt.Sprintf("%011o", n))
		return field
	}
	binary.BigEndian.PutUint64(field[4:], uint64(n))
	field[0] = 0x80
	return field
}

// value is the number, from 0 to format.MaxSize.
func (n number) value() (int64, error) { return parseNumber(n[:]) }

func parseNumber(field []byte) (int64, error) {
	var value uint64
	if field[0]&0x80 != 0 {
		digits := field[len(field)-8:]
		if field[0] != 0x80 || len(bytes.Trim(field[1:len(field)-8], "\x00")) > 0 {
			return 0, fmt.Errorf("the number %x is negative or too large: %w", field, format.ErrCorrupt)
		}
		value = binary.BigEndian.Uint64(digits)
	} else {
		for _, digit := range bytes.Trim(field, " \x00") {
			if digit < '0' || digit > '7' {
				return 0, fmt.Errorf("%q is no octal number: %w", field, format.ErrCorrupt)
			}
			value = value<<3 | uint64(digit-'0') // at most 36 bits
		}
	}
	if value > format.MaxSize {
		return 0, fmt.Errorf("the number %d is beyond any disk's size: %w", value, format.ErrCorrupt)
	}
	return int64(value), nil
}

// decodeHeader reads the first block of an archive. What is no tar header, or
// one with another member than Compute Engine takes, is an error.
func decodeHeader(raw []byte) (tarHeader, error) {
	var h tarHeader
	if _, err := binary.Decode(raw, binary.BigEndian, &h); err != nil {
		return h, fmt.Errorf("decode the tar header: %w", err)
	}
	sum, err := parseNumber(append([]byte{' '}, h.Checksum[:]...))
	if err != nil || sum != headerSum(raw) {
		return h, fmt.Errorf("no tar archive, or the checksum of its first header is wrong: %w", format.ErrCorrupt)
	}
	name, _, _ := strings.Cut(string(h.Name[:]), "\x00")
	if strings.TrimPrefix(name, "./") != memberName {
		return h, fmt.Errorf("the archive begins with %q; Compute Engine wants %s alone", name, memberName)
	}
	switch h.Type {
	case typeSparse, typeRegular, typeOld:
		return h, nil
	default:
		return h, fmt.Errorf("%s is a member of type %q; Compute Engine wants a file, as tar --format=oldgnu -S writes it", name, h.Type)
	}
}

// maxEntries bounds the map that a reader holds, in ranges: 24 MiB of memory.
const maxEntries = 1 << 20

// member is what a header says of the disk.
type member struct {
	size   int64   // bytes of the disk
	stored int64   // bytes in the archive
	header int64   // bytes before the data in the archive
	ranges []piece // ascending
}

// piece is a range of the disk that the archive holds.
type piece struct {
	format.Extent
	stored int64 // bytes of the member before it
}

// readMember reads the archive's first header with its extensions.
func readMember(archive io.Reader) (*member, error) {
	raw := make([]byte, tarBlock)
	if _, err := io.ReadFull(archive, raw); err != nil {
		return nil, fmt.Errorf("read the tar header: %w", err)
	}
	h, err := decodeHeader(raw)
	if err != nil {
		return nil, err
	}
	m := &member{header: tarBlock}
	stored, err := h.Size.value()
	if err != nil {
		return nil, err
	}
	if h.Type == typeSparse {
		if err := m.readMap(archive, h); err != nil {
			return nil, err
		}
	} else {
		m.size = stored
		m.add(format.Extent{Length: stored})
	}
	if m.size%format.SectorSize != 0 {
		return nil, fmt.Errorf("a disk of %d bytes, not whole sectors: %w", m.size, format.ErrCorrupt)
	}
	if m.stored != stored {
		return nil, fmt.Errorf("%d bytes in the archive, and ranges of %d: %w", stored, m.stored, format.ErrCorrupt)
	}
	return m, nil
}

// readMap reads the sparse map: from the header, then from its extensions.
func (m *member) readMap(archive io.Reader, h tarHeader) error {
	var err error
	if m.size, err = h.RealSize.value(); err != nil {
		return err
	}
	entries, extended := h.Entries[:], h.Extended
	raw := make([]byte, tarBlock)
	for {
		for _, e := range entries {
			if e.Length[0] == 0 { // an unused entry ends the map
				return nil
			}
			if err := m.addEntry(e); err != nil {
				return err
			}
		}
		if extended == 0 {
			return nil
		}
		if _, err := io.ReadFull(archive, raw); err != nil {
			return fmt.Errorf("read the tar header's extension: %w", err)
		}
		m.header += tarBlock
		if m.header > (maxEntries/entriesInExtension)*tarBlock {
			return errors.New("a disk in more than a million pieces; write it anew with tar --format=oldgnu -S")
		}
		var x extension
		if _, err := binary.Decode(raw, binary.BigEndian, &x); err != nil {
			return fmt.Errorf("decode the tar header's extension: %w", err)
		}
		entries, extended = x.Entries[:], x.Extended
	}
}

// addEntry adds what must lie behind all before it, and within the disk.
func (m *member) addEntry(e entry) error {
	offset, err := e.Offset.value()
	if err != nil {
		return err
	}
	length, err := e.Length.value()
	if err != nil {
		return err
	}
	var end int64
	if n := len(m.ranges); n > 0 {
		end = m.ranges[n-1].End()
	}
	if offset < end || offset+length > m.size {
		return fmt.Errorf("data at byte %d, %d bytes, behind byte %d of a disk of %d: %w", offset, length, end, m.size, format.ErrCorrupt)
	}
	m.add(format.Extent{Offset: offset, Length: length})
	return nil
}

func (m *member) add(e format.Extent) {
	if e.Length > 0 {
		m.ranges = append(m.ranges, piece{e, m.stored})
		m.stored += e.Length
	}
}
