package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/format"
)

// Bounds of what is read. QEMU has the same for the L1 table
// (QCOW_MAX_L1_SIZE); the caches hold 16 tables and 16 clusters, of 2 MiB at
// most each.
const (
	minClusterBits = 9
	maxClusterBits = 21
	maxL1Bytes     = 32 << 20
	cachedTables   = 16
	cachedClusters = 16
)

// Image is an open qcow2 image.
type Image struct {
	r           io.ReaderAt
	fileSize    int64
	size        int64
	clusterBits uint
	compression uint8
	l1          []uint64
	l2          format.Cache[[]byte]
	unpacked    format.Cache[[]byte]
	inflaters   inflaters
	census      census
}

// Open reads the header and the L1 table of a qcow2 image, version 2 or 3, of
// fileSize bytes. Images with a backing file, an external data file, encryption
// or extended L2 entries are refused with ErrUnsupported; a snapshot's content
// is ignored.
func Open(r io.ReaderAt, fileSize int64) (*Image, error) {
	h, err := readHeader(r, fileSize)
	if err != nil {
		return nil, err
	}
	if err := h.supported(); err != nil {
		return nil, err
	}
	size := int64(h.Size)
	if h.Size > format.MaxSize {
		return nil, fmt.Errorf("virtual size %d is above %d: %w", h.Size, int64(format.MaxSize), format.ErrCorrupt)
	}
	size = ceil(size, format.SectorSize) * format.SectorSize
	cluster := int64(1) << h.ClusterBits
	want := ceil(size, cluster*(cluster/8))
	if int64(h.L1Size) < want || want*8 > maxL1Bytes {
		return nil, fmt.Errorf("L1 table of %d entries for a disk that needs %d: %w", h.L1Size, want, format.ErrCorrupt)
	}
	table := make([]byte, min(want*8, fileSize))
	if int64(len(table)) < want*8 || h.L1TableOffset > uint64(fileSize) {
		return nil, fmt.Errorf("L1 table of %d bytes at byte %d of a file of %d: %w", want*8, h.L1TableOffset, fileSize, format.ErrCorrupt)
	}
	if err := format.ReadFull(r, fileSize, table, int64(h.L1TableOffset)); err != nil {
		return nil, fmt.Errorf("read the L1 table: %w", err)
	}
	image := &Image{
		r: r, fileSize: fileSize, size: size, clusterBits: uint(h.ClusterBits), compression: h.CompressionType,
		l1: make([]uint64, want), census: census{limit: fileSize},
	}
	image.l2.Limit, image.unpacked.Limit = cachedTables, cachedClusters
	tables := int64(0)
	for i := range image.l1 {
		if image.l1[i] = binary.BigEndian.Uint64(table[i*8:]) & offsetMask; image.l1[i] != 0 {
			tables++
		}
	}
	if tables*cluster > fileSize { // some are named twice, and to walk them would take forever
		return nil, fmt.Errorf("%d L2 tables of %d bytes in a file of %d: %w", tables, cluster, fileSize, format.ErrCorrupt)
	}
	return image, nil
}

func readHeader(r io.ReaderAt, fileSize int64) (header, error) {
	var h header
	buf := make([]byte, headerLength)
	if err := format.ReadFull(r, fileSize, buf[:min(fileSize, headerLength)], 0); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	if err := binary.Read(bytes.NewReader(buf), binary.BigEndian, &h); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	if string(h.Magic[:]) != magic {
		return h, fmt.Errorf("begins with %q, not with %q: %w", h.Magic, magic, format.ErrCorrupt)
	}
	switch {
	case h.Version == 2: // its header ends before IncompatibleFeatures
		h.IncompatibleFeatures, h.CompressionType = 0, 0
	case h.Version == version3 && h.HeaderLength < headerLength:
		h.CompressionType = 0
	case h.Version == version3:
	default:
		return h, fmt.Errorf("qcow2 version %d: %w", h.Version, ErrUnsupported)
	}
	if h.ClusterBits < minClusterBits || h.ClusterBits > maxClusterBits {
		return h, fmt.Errorf("clusters of 2^%d bytes, not 2^%d to 2^%d: %w", h.ClusterBits, minClusterBits, maxClusterBits, format.ErrCorrupt)
	}
	return h, nil
}

// supported says what this reader can't read of a header that is valid.
func (h header) supported() error {
	reasons := []struct {
		applies bool
		what    string
	}{
		{h.BackingFileOffset != 0, "it has a backing file; qemu-img convert makes one file of both"},
		{h.CryptMethod != 0, "it is encrypted"},
		{h.IncompatibleFeatures&incompatData != 0, "its data lies in another file"},
		{h.IncompatibleFeatures&incompatExtendedL2 != 0, "it has extended L2 entries"},
		{h.IncompatibleFeatures&^incompatKnown != 0, fmt.Sprintf("it uses features %#x", h.IncompatibleFeatures)},
		{h.CompressionType > 1, fmt.Sprintf("compression type %d", h.CompressionType)},
	}
	for _, reason := range reasons {
		if reason.applies {
			return fmt.Errorf("qcow2 image: %s: %w", reason.what, ErrUnsupported)
		}
	}
	if h.IncompatibleFeatures&incompatCorrupt != 0 {
		return fmt.Errorf("the image is marked as corrupt by the program that wrote it: %w", format.ErrCorrupt)
	}
	return nil
}

// Size is the disk's size in bytes.
func (m *Image) Size() int64 { return m.size }

func (m *Image) clusterSize() int64 { return 1 << m.clusterBits }

// entry returns the L2 entry of a cluster of the disk; 0 where there is none.
func (m *Image) entry(cluster int64) (uint64, error) {
	perTable := m.clusterSize() / 8
	at := int64(m.l1[cluster/perTable])
	if at == 0 {
		return 0, nil
	}
	table, err := m.l2.Get(at, func() ([]byte, error) {
		if at%m.clusterSize() != 0 {
			return nil, fmt.Errorf("L2 table at byte %d is not aligned: %w", at, format.ErrCorrupt)
		}
		table := make([]byte, m.clusterSize())
		return table, format.ReadFull(m.r, m.fileSize, table, at)
	})
	if err != nil {
		return 0, fmt.Errorf("L2 table: %w", err)
	}
	return binary.BigEndian.Uint64(table[cluster%perTable*8:]), nil
}

// NextData finds the next cluster that is allocated, and those behind it.
func (m *Image) NextData(offset int64) (format.Extent, error) {
	if offset >= m.size {
		return format.Extent{}, io.EOF
	}
	perTable := m.clusterSize() / 8
	cluster, end := offset>>m.clusterBits, ceil(m.size, m.clusterSize())
	start := int64(-1)
	for cluster < end {
		if m.l1[cluster/perTable] == 0 {
			if start >= 0 {
				break
			}
			cluster = (cluster/perTable + 1) * perTable
			continue
		}
		entry, err := m.entry(cluster)
		if err != nil {
			return format.Extent{}, err
		}
		allocated := isData(entry)
		if allocated {
			if err := m.census.count(m, cluster, entry); err != nil {
				return format.Extent{}, err
			}
			if start < 0 {
				start = cluster
			}
		} else if start >= 0 {
			break
		}
		cluster++
		if start >= 0 && cluster-start >= perTable { // enough for one call
			break
		}
	}
	if start < 0 {
		return format.Extent{}, io.EOF
	}
	from := max(offset, start<<m.clusterBits)
	return format.Extent{Offset: from, Length: min(min(cluster, end)<<m.clusterBits, m.size) - from}, nil
}

// isData reports whether an L2 entry maps to something that is not all zero.
func isData(entry uint64) bool {
	if entry&flagCompressed != 0 {
		return true
	}
	return entry&flagZero == 0 && entry&offsetMask != 0
}

// ReadAt reads from the disk.
func (m *Image) ReadAt(p []byte, offset int64) (int, error) {
	return format.ReadPieces(p, offset, m.size, m.clusterSize(), m.readCluster)
}

func (m *Image) readCluster(dst []byte, start, skip int64) error {
	entry, err := m.entry(start >> m.clusterBits)
	switch {
	case err != nil:
		return err
	case !isData(entry):
		clear(dst)
		return nil
	case entry&flagCompressed == 0:
		at := int64(entry & offsetMask)
		if at%m.clusterSize() != 0 {
			return fmt.Errorf("cluster at byte %d is not aligned: %w", at, format.ErrCorrupt)
		}
		return m.readPlain(dst, at+skip)
	}
	at, length := m.compressed(entry)
	content, err := m.unpacked.Get(at, func() ([]byte, error) { return m.inflate(at, length) })
	if err != nil {
		return err
	}
	copy(dst, content[skip:])
	return nil
}

// readPlain reads what a cluster holds; the file's last cluster may be cut
// short, as QEMU leaves it, and goes on with zeros.
func (m *Image) readPlain(dst []byte, at int64) error {
	if at > m.fileSize {
		return fmt.Errorf("cluster at byte %d of a file of %d: %w", at, m.fileSize, format.ErrCorrupt)
	}
	n := min(int64(len(dst)), m.fileSize-at)
	clear(dst[n:])
	return format.ReadFull(m.r, m.fileSize, dst[:n], at)
}

// compressed splits a "Compressed Clusters Descriptor" into offset and length
// in bytes; the length goes to the end of the last sector.
func (m *Image) compressed(entry uint64) (at, length int64) {
	shift := 62 - (m.clusterBits - 8)
	at = int64(entry & (1<<shift - 1))
	sectors := int64(entry &^ (3 << 62) >> shift)
	return at, (sectors+1)*format.SectorSize - at%format.SectorSize
}

// census finds images whose tables name the same clusters over and over, which
// could make a small file into an endless disk: a file can't hold more data
// than its size, and packed data can't be smaller than its method allows.
type census struct {
	limit  int64 // the file's size in bytes
	seen   int64 // clusters of the disk before this one are counted
	plain  int64 // bytes in plain clusters
	packed int64 // least bytes in compressed clusters
}

const (
	maxDeflateRatio = 1032 // zlib's manual, "Maximum Expansion Factor"
	minZstdFrame    = 11   // magic, header with a size of 2 bytes, one block of equal bytes
)

func (c *census) count(m *Image, cluster int64, entry uint64) error {
	if cluster < c.seen {
		return nil
	}
	c.seen = cluster + 1
	switch {
	case entry&flagCompressed == 0:
		c.plain += m.clusterSize()
	case m.compression == compressionTypes[Zstd]:
		c.packed += minZstdFrame
	default:
		c.packed += max(1, m.clusterSize()/maxDeflateRatio)
	}
	if c.plain > c.limit+m.clusterSize() || c.packed > c.limit {
		return fmt.Errorf("the tables name more clusters than a file of %d bytes can hold: %w", c.limit, format.ErrCorrupt)
	}
	return nil
}
