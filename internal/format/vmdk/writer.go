package vmdk

import (
	"encoding/binary"
	"fmt"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/deflate"
)

// The writer's geometry ("Stream-Optimized Compressed Sparse Extents"). A grain
// is a format.Block.
const (
	grainSectors   = format.BlockSize / format.SectorSize
	entriesPerGT   = 512 // the only number that VMware's products take
	tableCoverage  = entriesPerGT * format.BlockSize
	overheadSector = 128 // the first grain, at a multiple of the grain size
	maxFileSectors = 1<<32 - 1
)

// writer streams: header and descriptor (patched last), then the grains with
// each grain table behind its grains, the grain directory, the footer. In
// memory are the directory and one table.
type writer struct {
	out       *format.Output
	options   Options
	sectors   int64 // the disk's, whole grains not needed
	directory []uint32
	table     [entriesPerGT]uint32
	tableIdx  int64
	inUse     bool // table has entries
}

// New makes a writer of a streamOptimized VMDK of a disk of diskSize bytes.
func (o Options) New(out *format.Output, diskSize int64) (format.Writer, error) {
	options, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &writer{
		out: out, options: options, sectors: diskSize / format.SectorSize,
		directory: make([]uint32, (diskSize+tableCoverage-1)/tableCoverage),
	}
	return w, out.Skip(overheadSector * format.SectorSize)
}

func (w *writer) Codec() format.Codec { return deflate.Codec{} }

// WriteBlock writes a grain marker (the grain's place on the disk, the length of
// its data) and the data, up to a whole sector.
func (w *writer) WriteBlock(b format.Block) error {
	if table := b.Offset / tableCoverage; table != w.tableIdx {
		if err := w.flushTable(); err != nil {
			return err
		}
		w.tableIdx = table
	}
	sector, err := w.sector()
	if err != nil {
		return err
	}
	w.table[b.Offset%tableCoverage/format.BlockSize], w.inUse = sector, true
	marker := binary.LittleEndian.AppendUint64(nil, uint64(b.Offset/format.SectorSize))
	marker = binary.LittleEndian.AppendUint32(marker, uint32(len(b.Encoded)))
	if _, err := w.out.Write(marker); err != nil {
		return err
	}
	if _, err := w.out.Write(b.Encoded); err != nil {
		return err
	}
	return w.out.Pad(format.SectorSize)
}

// sector is where the next thing goes; tables hold 32 bits of it.
func (w *writer) sector() (uint32, error) {
	sector := w.out.Size() / format.SectorSize
	if sector > maxFileSectors {
		return 0, fmt.Errorf("the compressed disk is larger than 2 TiB, which a VMDK's tables can't address")
	}
	return uint32(sector), nil
}

// metadata writes a metadata marker and what it announces.
func (w *writer) metadata(kind uint32, content []byte) (at uint32, err error) {
	sectors := (len(content) + format.SectorSize - 1) / format.SectorSize
	marker := make([]byte, format.SectorSize)
	binary.LittleEndian.PutUint64(marker, uint64(sectors))
	binary.LittleEndian.PutUint32(marker[12:], kind)
	if _, err := w.out.Write(marker); err != nil {
		return 0, err
	}
	if at, err = w.sector(); err != nil {
		return 0, err
	}
	if _, err := w.out.Write(content); err != nil {
		return 0, err
	}
	return at, w.out.Pad(format.SectorSize)
}

// flushTable writes the grain table; a table without grains is left out, and
// its directory entry stays 0.
func (w *writer) flushTable() error {
	if !w.inUse {
		return nil
	}
	at, err := w.metadata(markerGrainTable, littleEndian(w.table[:]))
	if err != nil {
		return err
	}
	w.directory[w.tableIdx] = at
	clear(w.table[:])
	w.inUse = false
	return nil
}

func (w *writer) Finish(s format.Summary) error {
	if err := w.flushTable(); err != nil {
		return err
	}
	directoryAt, err := w.metadata(markerGrainDirectory, littleEndian(w.directory))
	if err != nil {
		return err
	}
	if _, err := w.metadata(markerFooter, w.header(uint64(directoryAt)).bytes()); err != nil {
		return err
	}
	if _, err := w.metadata(markerEndOfStream, nil); err != nil {
		return err
	}
	descriptor, err := w.options.descriptor(w.sectors, s)
	if err != nil {
		return err
	}
	_, err = w.out.WriteAt(append(w.header(directoryAtEnd).bytes(), descriptor...), 0)
	return err
}

func (w *writer) header(directory uint64) header {
	return header{
		Magic: [4]byte([]byte(magic)), Version: versionCompressed,
		Flags:    flagNewlineTest | flagCompressed | flagMarkers,
		Capacity: uint64(w.sectors), GrainSize: grainSectors,
		DescriptorOffset: descriptorOffset, DescriptorSize: descriptorSize,
		NumGTEsPerGT: entriesPerGT, GdOffset: directory, OverHead: overheadSector,
		SingleEndLineChar: '\n', NonEndLineChar: ' ', DoubleEndLineChars: [2]byte{'\r', '\n'},
		CompressAlgorithm: compressionDeflate,
	}
}

func littleEndian(table []uint32) []byte {
	buf := make([]byte, 0, len(table)*4)
	for _, v := range table {
		buf = binary.LittleEndian.AppendUint32(buf, v)
	}
	return buf
}
