package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"nodesmith.dev/nodesmith/internal/format"
)

// Bounds of what is read: QEMU takes as many entries in a table, and a directory
// of 64 TiB with the usual grains has 8 MiB.
const (
	maxEntriesPerGT   = 512
	maxGrainSectors   = 4096 // 2 MiB
	maxDirectoryBytes = 32 << 20
	cachedTables      = 256
	cachedGrains      = 16
)

// Image is an open VMDK.
type Image struct {
	r         io.ReaderAt
	fileSize  int64
	header    header
	grain     int64 // bytes
	directory []uint32
	tables    format.Cache[[]byte]
	unpacked  format.Cache[[]byte]
	inflaters sync.Pool
	seen      int64 // grains of the disk before this one are counted in stored
	stored    int64 // bytes in grains that are not compressed
}

// Open reads the header (from the footer where the file is a stream) and the
// grain directory of a VMDK of fileSize bytes. A file that is only a descriptor
// is refused with ErrUnsupported, like any that needs other files.
func Open(r io.ReaderAt, fileSize int64) (*Image, error) {
	h, err := readHeader(r, fileSize, 0)
	if err != nil {
		return nil, err
	}
	if h.GdOffset == directoryAtEnd {
		// The footer is the second sector from the end ("Footer").
		if h, err = readHeader(r, fileSize, fileSize-2*format.SectorSize); err != nil {
			return nil, fmt.Errorf("footer: %w", err)
		}
		if h.GdOffset == directoryAtEnd {
			return nil, fmt.Errorf("the footer does not say where the grain directory is: %w", format.ErrCorrupt)
		}
	}
	if err := h.valid(); err != nil {
		return nil, err
	}
	m := &Image{r: r, fileSize: fileSize, header: h, grain: int64(h.GrainSize) * format.SectorSize}
	m.tables.Limit, m.unpacked.Limit = cachedTables, cachedGrains
	coverage := m.grain * int64(h.NumGTEsPerGT)
	entries := (m.Size() + coverage - 1) / coverage
	if entries*4 > min(maxDirectoryBytes, fileSize) || h.GdOffset > uint64(fileSize) {
		return nil, fmt.Errorf("grain directory of %d entries at sector %d of a file of %d bytes: %w", entries, h.GdOffset, fileSize, format.ErrCorrupt)
	}
	buf := make([]byte, entries*4)
	if err := format.ReadFull(r, fileSize, buf, int64(h.GdOffset)*format.SectorSize); err != nil {
		return nil, fmt.Errorf("read the grain directory: %w", err)
	}
	m.directory = make([]uint32, entries)
	tables := int64(0)
	for i := range m.directory {
		if m.directory[i] = binary.LittleEndian.Uint32(buf[i*4:]); m.directory[i] != 0 {
			tables++
		}
	}
	if tables*int64(h.NumGTEsPerGT)*4 > fileSize { // some are named twice, and to walk them would take forever
		return nil, fmt.Errorf("%d grain tables of %d entries in a file of %d bytes: %w", tables, h.NumGTEsPerGT, fileSize, format.ErrCorrupt)
	}
	return m, nil
}

func readHeader(r io.ReaderAt, fileSize, at int64) (header, error) {
	var h header
	buf := make([]byte, format.SectorSize)
	if err := format.ReadFull(r, fileSize, buf, at); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	if err := binary.Read(bytes.NewReader(buf), binary.LittleEndian, &h); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	if string(h.Magic[:]) != magic {
		return h, fmt.Errorf("header at byte %d begins with %q, not with %q: %w", at, h.Magic, magic, format.ErrCorrupt)
	}
	return h, nil
}

// valid checks what the header says; the sizes bound all tables.
func (h header) valid() error {
	switch {
	case h.Version < 1 || h.Version > versionCompressed:
		return fmt.Errorf("VMDK version %d: %w", h.Version, ErrUnsupported)
	case h.Flags&flagNewlineTest != 0 && (h.SingleEndLineChar != '\n' || h.NonEndLineChar != ' ' || h.DoubleEndLineChars != [2]byte{'\r', '\n'}):
		return fmt.Errorf("a transfer as text changed the file's line ends: %w", format.ErrCorrupt)
	case h.Capacity > format.MaxSize/format.SectorSize:
		return fmt.Errorf("capacity of %d sectors: %w", h.Capacity, format.ErrCorrupt)
	case h.GrainSize < 8 || h.GrainSize > maxGrainSectors || h.GrainSize&(h.GrainSize-1) != 0:
		return fmt.Errorf("grains of %d sectors: %w", h.GrainSize, format.ErrCorrupt)
	case h.NumGTEsPerGT == 0 || h.NumGTEsPerGT > maxEntriesPerGT:
		return fmt.Errorf("grain tables of %d entries: %w", h.NumGTEsPerGT, format.ErrCorrupt)
	case h.Flags&flagCompressed != 0 && (h.CompressAlgorithm != compressionDeflate || h.Flags&flagMarkers == 0):
		return fmt.Errorf("compression algorithm %d, flags %#x: %w", h.CompressAlgorithm, h.Flags, ErrUnsupported)
	case h.GdOffset == 0 && h.Capacity > 0:
		return fmt.Errorf("no grain directory: %w", format.ErrCorrupt)
	}
	return nil
}

// Descriptor returns the embedded descriptor; "" where there is none.
func (m *Image) Descriptor() (string, error) {
	h, err := readHeader(m.r, m.fileSize, 0) // the footer's may be 0
	if err != nil {
		return "", err
	}
	const most = 1 << 20
	if h.DescriptorOffset == 0 || h.DescriptorSize > most/format.SectorSize || h.DescriptorOffset > uint64(m.fileSize) {
		return "", nil
	}
	buf := make([]byte, h.DescriptorSize*format.SectorSize)
	if err := format.ReadFull(m.r, m.fileSize, buf, int64(h.DescriptorOffset)*format.SectorSize); err != nil {
		return "", fmt.Errorf("read the descriptor: %w", err)
	}
	text, _, _ := bytes.Cut(buf, []byte{0})
	return string(text), nil
}

// Size is the disk's size in bytes.
func (m *Image) Size() int64 { return int64(m.header.Capacity) * format.SectorSize }

// entry returns the sector of a grain; 0 where it is not stored.
func (m *Image) entry(grain int64) (uint32, error) {
	perTable := int64(m.header.NumGTEsPerGT)
	sector := m.directory[grain/perTable]
	if sector == 0 {
		return 0, nil
	}
	table, err := m.tables.Get(int64(sector), func() ([]byte, error) {
		table := make([]byte, perTable*4)
		return table, format.ReadFull(m.r, m.fileSize, table, int64(sector)*format.SectorSize)
	})
	if err != nil {
		return 0, fmt.Errorf("grain table at sector %d: %w", sector, err)
	}
	entry := binary.LittleEndian.Uint32(table[grain%perTable*4:])
	if entry == zeroedGrain && m.header.Flags&flagZeroedGrain != 0 {
		return 0, nil
	}
	return entry, nil
}

// NextData finds the next grains that are stored.
func (m *Image) NextData(offset int64) (format.Extent, error) {
	if offset >= m.Size() {
		return format.Extent{}, io.EOF
	}
	perTable := int64(m.header.NumGTEsPerGT)
	end := (m.Size() + m.grain - 1) / m.grain
	start := int64(-1)
	grain := offset / m.grain
	for grain < end && (start < 0 || grain-start < perTable) {
		if start < 0 && m.directory[grain/perTable] == 0 {
			grain = (grain/perTable + 1) * perTable
			continue
		}
		sector, err := m.entry(grain)
		if err != nil {
			return format.Extent{}, err
		}
		if sector == 0 && start >= 0 {
			break
		}
		if sector != 0 {
			if err := m.count(grain); err != nil {
				return format.Extent{}, err
			}
			if start < 0 {
				start = grain
			}
		}
		grain++
	}
	if start < 0 {
		return format.Extent{}, io.EOF
	}
	from := max(offset, start*m.grain)
	return format.Extent{Offset: from, Length: min(min(grain, end)*m.grain, m.Size()) - from}, nil
}

// count finds tables that name the same grains over and over, which could make a
// small file into an endless disk. A compressed grain says itself whose it is.
func (m *Image) count(grain int64) error {
	if m.header.Flags&flagCompressed != 0 || grain < m.seen {
		return nil
	}
	m.seen = grain + 1
	if m.stored += m.grain; m.stored > m.fileSize+m.grain {
		return fmt.Errorf("the grain tables name more grains than a file of %d bytes can hold: %w", m.fileSize, format.ErrCorrupt)
	}
	return nil
}

// ReadAt reads from the disk.
func (m *Image) ReadAt(p []byte, offset int64) (int, error) {
	return format.ReadPieces(p, offset, m.Size(), m.grain, m.readGrain)
}

func (m *Image) readGrain(dst []byte, start, skip int64) error {
	sector, err := m.entry(start / m.grain)
	if err != nil {
		return err
	}
	if sector == 0 {
		clear(dst)
		return nil
	}
	at := int64(sector) * format.SectorSize
	if m.header.Flags&flagCompressed == 0 {
		return format.ReadFull(m.r, m.fileSize, dst, at+skip)
	}
	content, err := m.unpacked.Get(start, func() ([]byte, error) { return m.inflate(at, start) })
	if err != nil {
		return err
	}
	copy(dst, content[skip:])
	return nil
}

// inflate reads the compressed grain at byte at of the file, which must be the
// one that lies at byte start of the disk.
func (m *Image) inflate(at, start int64) ([]byte, error) {
	marker := make([]byte, 12)
	if err := format.ReadFull(m.r, m.fileSize, marker, at); err != nil {
		return nil, err
	}
	if lba := binary.LittleEndian.Uint64(marker); lba != uint64(start/format.SectorSize) {
		return nil, fmt.Errorf("the grain at byte %d of the file is for sector %d of the disk, its table says sector %d: %w",
			at, lba, start/format.SectorSize, format.ErrCorrupt)
	}
	length := int64(binary.LittleEndian.Uint32(marker[8:]))
	if length == 0 || length > 2*m.grain {
		return nil, fmt.Errorf("the grain at byte %d has %d bytes of data: %w", at, length, format.ErrCorrupt)
	}
	packed := make([]byte, length)
	if err := format.ReadFull(m.r, m.fileSize, packed, at+int64(len(marker))); err != nil {
		return nil, err
	}
	content := make([]byte, m.grain)
	if err := m.unzip(packed, content[:min(m.grain, m.Size()-start)]); err != nil {
		return nil, fmt.Errorf("decompress the grain at byte %d: %w: %w", at, format.ErrCorrupt, err)
	}
	return content, nil
}

// unzip fills content. The disk's last grain may end with the disk, or go on as
// a whole one.
func (m *Image) unzip(packed, content []byte) error {
	reader := bytes.NewReader(packed)
	decoder, ok := m.inflaters.Get().(io.ReadCloser)
	if ok {
		if err := decoder.(zlib.Resetter).Reset(reader, nil); err != nil {
			return err
		}
	} else {
		var err error
		if decoder, err = zlib.NewReader(reader); err != nil {
			return err
		}
	}
	defer m.inflaters.Put(decoder)
	_, err := io.ReadFull(decoder, content)
	return err
}
