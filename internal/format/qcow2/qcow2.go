// Package qcow2 writes and reads QEMU's disk format, version 3.
//
// The names of fields and bits, and the section titles in comments, are those
// of docs/interop/qcow2.txt in QEMU's sources. The writer makes clusters of
// 64 KiB, compressed where that saves room, packed one behind the other. Every
// cluster of the file is referenced by exactly what its refcount says.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/format"
)

// Format is the table row, with zstd compression.
var Format = format.Format{
	Name: "qcow2", Suffix: ".qcow2",
	Probe: probe,
	Open:  func(r io.ReaderAt, size int64) (format.Source, error) { return Open(r, size) },
	New:   Options{}.New, Revision: 1, SizeUnit: format.SectorSize, QEMU: "qcow2",
}

// Constants of "Header".
const (
	magic           = "QFI\xfb"
	version3        = 3
	headerLength    = 112 // with the compression type
	refcountOrder16 = 4   // refcounts of 16 bits

	incompatDirty       = 1 << 0
	incompatCorrupt     = 1 << 1
	incompatData        = 1 << 2
	incompatCompression = 1 << 3
	incompatExtendedL2  = 1 << 4
	incompatKnown       = incompatDirty | incompatCorrupt | incompatData | incompatCompression | incompatExtendedL2

	extensionFeatureNames = 0x6803f857
)

// Bits of L1 and L2 entries ("Cluster mapping").
const (
	flagCopied     = 1 << 63
	flagCompressed = 1 << 62
	flagZero       = 1 << 0
	offsetMask     = 0x00fffffffffffe00
)

// header is the fixed part of a version 3 header; all big endian.
type header struct {
	Magic                 [4]byte
	Version               uint32
	BackingFileOffset     uint64
	BackingFileSize       uint32
	ClusterBits           uint32
	Size                  uint64
	CryptMethod           uint32
	L1Size                uint32
	L1TableOffset         uint64
	RefcountTableOffset   uint64
	RefcountTableClusters uint32
	NbSnapshots           uint32
	SnapshotsOffset       uint64
	IncompatibleFeatures  uint64
	CompatibleFeatures    uint64
	AutoclearFeatures     uint64
	RefcountOrder         uint32
	HeaderLength          uint32
	CompressionType       uint8
	_                     [7]byte
}

// Compression is how clusters are stored; the numbers are the header's.
type Compression int

// The compressions.
const (
	Zstd Compression = iota // QEMU 5.1 and newer
	Zlib                    // every QEMU; larger and slower
	Plain
)

// compressionTypes is "compression_type" of the header.
var compressionTypes = map[Compression]uint8{Zlib: 0, Zstd: 1, Plain: 0}

// Options says how an image is written.
type Options struct {
	Compression Compression
}

// ErrUnsupported is in the chain of errors about images that are whole, but use
// what this reader does not know.
var ErrUnsupported = errors.New("not supported")

func probe(r io.ReaderAt, size int64) (bool, error) {
	if size < int64(len(magic)) {
		return false, nil
	}
	var got [len(magic)]byte
	if _, err := r.ReadAt(got[:], 0); err != nil {
		return false, fmt.Errorf("read the first bytes: %w", err)
	}
	return string(got[:]) == magic, nil
}

// featureNames is the "Feature name table" that tells a QEMU before 5.1 what it
// lacks.
func featureNames() []byte {
	var entry [48]byte
	entry[0], entry[1] = 0, 3 // incompatible feature, bit 3
	copy(entry[2:], "compression type")
	table := binary.BigEndian.AppendUint32(nil, extensionFeatureNames)
	table = binary.BigEndian.AppendUint32(table, uint32(len(entry)))
	table = append(table, entry[:]...)
	return append(table, make([]byte, 8)...) // end of the header extensions
}
