// Package vmdk writes streamOptimized VMDKs and reads them, and hosted sparse
// extents with an embedded descriptor (monolithicSparse).
//
// Names and rules are those of VMware's technical note "Virtual Disk Format
// 5.0"; section titles in comments are its own. Which rules a test holds is
// listed in docs/formats.md.
package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/format"
)

// Format is the table row.
var Format = format.Format{
	Name: "vmdk", Suffix: ".vmdk",
	Probe: probe,
	Open:  func(r io.ReaderAt, size int64) (format.Source, error) { return Open(r, size) },
	New:   Options{}.New, Revision: 2, SizeUnit: format.SectorSize, QEMU: "vmdk",
}

// Constants of "Hosted Sparse Extent Header".
const (
	magic              = "KDMV"
	versionCompressed  = 3 // what VMware's products write for compressed extents
	flagNewlineTest    = 1 << 0
	flagRedundant      = 1 << 1
	flagZeroedGrain    = 1 << 2
	flagCompressed     = 1 << 16
	flagMarkers        = 1 << 17
	compressionNone    = 0
	compressionDeflate = 1
	directoryAtEnd     = 0xffffffffffffffff // GD_AT_END
	zeroedGrain        = 1                  // grain table entry of a grain of zeros, with flagZeroedGrain
)

// Types of markers ("Markers").
const (
	markerEndOfStream    = 0
	markerGrainTable     = 1
	markerGrainDirectory = 2
	markerFooter         = 3
)

// header is SparseExtentHeader, little endian, one sector; sizes and offsets
// are in sectors.
type header struct {
	Magic              [4]byte
	Version            uint32
	Flags              uint32
	Capacity           uint64
	GrainSize          uint64
	DescriptorOffset   uint64
	DescriptorSize     uint64
	NumGTEsPerGT       uint32
	RgdOffset          uint64
	GdOffset           uint64
	OverHead           uint64
	UncleanShutdown    uint8
	SingleEndLineChar  byte
	NonEndLineChar     byte
	DoubleEndLineChars [2]byte
	CompressAlgorithm  uint16
	_                  [433]byte
}

func (h header) bytes() []byte {
	var buf bytes.Buffer
	_ = binary.Write(&buf, binary.LittleEndian, h) // a fixed-size struct into memory
	return buf.Bytes()
}

// ErrUnsupported is in the chain of errors about files that are whole, but of a
// kind of VMDK that this reader does not know.
var ErrUnsupported = errors.New("not supported")

func probe(r io.ReaderAt, size int64) (bool, error) {
	if size < format.SectorSize {
		return false, nil
	}
	var got [len(magic)]byte
	if _, err := r.ReadAt(got[:], 0); err != nil {
		return false, fmt.Errorf("read the first bytes: %w", err)
	}
	return string(got[:]) == magic, nil
}
