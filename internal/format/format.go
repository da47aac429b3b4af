// Package format turns a disk into the files that infrastructures import.
//
// What comes in is a Source: a raw disk, or any image that one of the format
// packages below reads. What goes out is one file for each Target. The disk is
// read once whatever the number of targets, zeros are found once, and each
// block is compressed once for each codec that the targets use, on all cores.
// The files depend on the disk's content and the writers' options alone: not on
// the number of cores, the host, the day, or where the source has its holes.
// Memory is bounded whatever the disk's size (see Convert). A file appears
// under its name only when it is whole and so are all others of the call.
package format

import (
	"errors"
	"io"
)

// BlockSize is the unit that writers get, in bytes: qcow2's default cluster and
// streamOptimized VMDK's only grain size that every reader takes.
const BlockSize = 64 << 10

// ChunkSize is the unit in which disks are read and in which their content has
// digests, in bytes: the block of EBS's direct API, and the store's.
const ChunkSize = 512 << 10

// SectorSize is the unit of disk sizes, in bytes.
const SectorSize = 512

// MaxSize is the largest disk that readers accept and writers make, in bytes:
// 64 TiB, the limit of vSphere's and Azure's disks rounded up. It bounds every
// table that a hostile image can make a reader hold.
const MaxSize = 64 << 40

// ErrCorrupt is in the chain of every error that says that an image breaks the
// rules of its format.
var ErrCorrupt = errors.New("image is damaged")

// Extent is a range of a disk, in bytes.
type Extent struct{ Offset, Length int64 }

// End is the first byte behind the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Source is a disk that can be read: a raw file or a decoded image. ReadAt
// follows io.ReaderAt and may be called by several goroutines at once; it
// returns zeros for holes.
type Source interface {
	io.ReaderAt
	// Size is the virtual size in bytes, a multiple of SectorSize.
	Size() int64
	// NextData returns the first range at or after offset that may hold
	// something else than zeros, cut at offset and at Size; io.EOF when only
	// zeros follow. It is called with ascending offsets, by one goroutine.
	NextData(offset int64) (Extent, error)
}

// Summed is a Source that knows what it holds.
type Summed interface {
	Source
	// ChunkSum returns the SHA-256 of the ChunkSize bytes at offset, filled up with
	// zeros behind the disk's end, if it is known and ReadAt returns no others.
	ChunkSum(offset int64) (sum [32]byte, known bool)
}

// Block is BlockSize bytes of a disk that are not all zero.
type Block struct {
	// Offset is where the block lies on the disk, in bytes: a multiple of
	// BlockSize.
	Offset int64
	// Data is always BlockSize long. The disk's last block is filled up with
	// zeros if the disk ends within it. It is valid during the call only.
	Data []byte
	// Encoded is what the writer's codec made of Data; nil without a codec or
	// if the codec returned nothing.
	Encoded []byte
	// Chunk is the SHA-256 of the ChunkSize bytes of the disk, filled up with zeros
	// behind its end, that the block lies in; nil if nobody has asked for it yet.
	Chunk *[32]byte
}

// Summary is what is known of the disk after its last block.
type Summary struct {
	// Data is the number of bytes in non-zero blocks.
	Data int64
	// Identity follows the content: equal for equal disks, and different, with
	// all but certainty, for others. Formats that want a random identifier take
	// it from here. It is no cryptographic digest.
	Identity [16]byte
}

// Writer writes one file of one format. Its methods are called by one goroutine
// at a time; a constructor has got the Output and the disk's size.
type Writer interface {
	// Codec is how the writer wants its blocks encoded; nil to get them as
	// they are. Writers with the same codec share the work.
	Codec() Codec
	// WriteBlock takes the next non-zero block; offsets ascend.
	WriteBlock(Block) error
	// Finish writes what stands behind the blocks, and patches what stands
	// before them. The caller flushes and closes the Output.
	Finish(Summary) error
}

// Codec makes encoders. Two codecs with the same ID are the same function.
type Codec interface {
	// ID names the function, its parameters and, for who keeps what it returned, a
	// revision that is raised whenever it returns other bytes: "zlib-7.1". It can
	// be a file's name.
	ID() string
	// NewEncoder returns an encoder for the use of one goroutine.
	NewEncoder() (Encoder, error)
}

// Encoder encodes blocks, each independent of what came before it.
type Encoder interface {
	// Encode appends the encoded block, of BlockSize bytes, to dst and returns
	// the result. Nothing appended means that the writer should store the
	// block as it is. It depends on block alone.
	Encode(dst, block []byte) ([]byte, error)
}

// Format is one row of the table of formats (internal/format/known).
type Format struct {
	// Name is what the command line calls it: "qcow2".
	Name string
	// Suffix is what its files' names end with: ".qcow2".
	Suffix string
	// Probe reports whether the file of size bytes is of this format.
	Probe func(r io.ReaderAt, size int64) (bool, error)
	// Open reads the file's tables, within bounded memory. Damage is an error
	// with ErrCorrupt in its chain. The reader stays the caller's to close.
	Open func(r io.ReaderAt, size int64) (Source, error)
	// New makes a writer with the format's default options for a disk of
	// diskSize bytes, a multiple of SectorSize.
	New func(out *Output, diskSize int64) (Writer, error)
	// Revision is raised whenever New's writer makes other bytes of the same disk
	// than before: who keeps files knows by it that they are out of date.
	Revision int
	// SizeUnit is what the writer rounds the disk's size up to, in bytes. A disk
	// of whole units keeps the backup of its partition table at its end.
	SizeUnit int64
	// QEMU is the block driver with which QEMU reads the file, or for an
	// Embedding source the disk within it; "" where QEMU has none.
	QEMU string
	// Sequential says that a Source of this format is made to be read forward:
	// reads that go back are slow.
	Sequential bool
}

// Embedding is a Source that lies as a disk image of its own within its file.
type Embedding interface {
	// Embedded is where the disk image lies in the file.
	Embedded() Extent
}

// Target is one file to be made, or a Sink that is fed in the same read.
type Target struct {
	// Path is the file's final name.
	Path string
	// New makes the writer.
	New func(out *Output, diskSize int64) (Writer, error)
	// Sink, if it is not nil, keeps what it gets by itself: there is no file, and
	// Path is its name in errors. It is finished before any file gets its name.
	Sink Writer
}
