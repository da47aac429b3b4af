package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
)

// Options are what a file says of itself beside the disk.
type Options struct {
	// ID identifies the disk; zero to take it from the disk's content.
	ID [16]byte
	// Created is the file's time stamp, from 2000 to 2136; zero for the begin
	// of 2000.
	Created time.Time
}

// azureUnit is what Azure wants a disk's size to be a multiple of, in bytes.
const azureUnit = 1 << 20

// New makes a writer of a fixed disk with the default options.
func New(out *format.Output, diskSize int64) (format.Writer, error) {
	return NewFixed(out, diskSize, Options{})
}

// NewFixed makes a writer of a fixed disk as Azure wants it: diskSize bytes
// rounded up to whole MiB, then the footer. It fails for more than MaxSize.
func NewFixed(out *format.Output, diskSize int64, options Options) (format.Writer, error) {
	if diskSize < 0 || diskSize > MaxSize {
		return nil, fmt.Errorf("a fixed VHD of %d bytes: the format has room for %d", diskSize, int64(MaxSize))
	}
	stamp, err := options.timeStamp()
	if err != nil {
		return nil, err
	}
	return &fixedWriter{out, alignUp(diskSize, azureUnit), options.ID, stamp}, nil
}

// NewDynamic makes a writer of a dynamic disk of diskSize bytes, which leaves
// out the blocks of 2 MiB that are zero. It fails for more than 2040 GiB.
func NewDynamic(out *format.Output, diskSize int64, options Options) (format.Writer, error) {
	if diskSize < 0 || diskSize > maxDynamic || diskSize%format.SectorSize != 0 {
		return nil, fmt.Errorf("a dynamic VHD of %d bytes: want whole sectors, and the format has room for %d bytes",
			diskSize, int64(maxDynamic))
	}
	stamp, err := options.timeStamp()
	if err != nil {
		return nil, err
	}
	table := bytes.Repeat([]byte{0xff}, int(alignUp(blocks(diskSize, blockSize)*entrySize, format.SectorSize)))
	// The footer's copy, the header and the table come last, when all is known.
	if err := out.Skip(footerSize + headerSize + int64(len(table))); err != nil {
		return nil, err
	}
	return &dynamicWriter{out: out, size: diskSize, id: options.ID, stamp: stamp, table: table, block: -1}, nil
}

func (o Options) timeStamp() (uint32, error) {
	if o.Created.IsZero() {
		return 0, nil
	}
	seconds := o.Created.Unix() - epoch.Unix()
	if seconds < 0 || seconds > 1<<32-1 {
		return 0, fmt.Errorf("a VHD can't say that it was created at %s: its time stamps go from 2000 to 2136", o.Created.UTC())
	}
	return uint32(seconds), nil
}

// newFooter fills in what all disks share.
func newFooter(diskType uint32, dataOffset uint64, size int64, id, identity [16]byte, stamp uint32) footer {
	if id == ([16]byte{}) {
		// RFC 9562, section 5.8: version 8, whose bits are the maker's.
		id = identity
		id[6] = id[6]&0x0f | 0x80
		id[8] = id[8]&0x3f | 0x80
	}
	f := footer{
		Features: featureReserved, Version: version1, DataOffset: dataOffset, TimeStamp: stamp,
		CreatorApplication: creator.application, CreatorVersion: creator.version, CreatorHost: creator.host,
		OriginalSize: uint64(size), CurrentSize: uint64(size),
		Geometry: maxGeometry, DiskType: diskType, UniqueID: id,
	}
	copy(f.Cookie[:], footerCookie)
	return f
}

// fixedWriter writes each block at its place; holes stay between them.
type fixedWriter struct {
	out   *format.Output
	size  int64 // whole MiB, in bytes
	id    [16]byte
	stamp uint32
}

func (w *fixedWriter) Codec() format.Codec { return nil }

func (w *fixedWriter) WriteBlock(b format.Block) error {
	if err := extend(w.out, b.Offset); err != nil {
		return err
	}
	_, err := w.out.Write(b.Data) // whole: a MiB has whole blocks
	return err
}

func (w *fixedWriter) Finish(s format.Summary) error {
	if err := extend(w.out, w.size); err != nil {
		return err
	}
	raw, err := encode(newFooter(diskFixed, noOffset, w.size, w.id, s.Identity, w.stamp), footerChecksumOffset)
	if err != nil {
		return err
	}
	_, err = w.out.Write(raw)
	return err
}

// dynamicWriter appends a block of the file for each run of blocks of the disk
// that lie in the same 2 MiB.
type dynamicWriter struct {
	out   *format.Output
	size  int64 // bytes
	id    [16]byte
	stamp uint32
	table []byte // the block allocation table as in the file
	block int64  // the one that is being written; -1 before the first
	start int64  // of its data in the file, in bytes
}

func (w *dynamicWriter) Codec() format.Codec { return nil }

func (w *dynamicWriter) WriteBlock(b format.Block) error {
	if block := b.Offset / blockSize; block != w.block {
		if err := w.begin(block); err != nil {
			return err
		}
	}
	if err := extend(w.out, w.start+b.Offset%blockSize); err != nil {
		return err
	}
	_, err := w.out.Write(b.Data)
	return err
}

// begin closes the current block of the file and appends the next one's bitmap:
// all sectors are there, as QEMU and Hyper-V write it.
func (w *dynamicWriter) begin(block int64) error {
	if err := w.end(); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(w.table[block*entrySize:], uint32(w.out.Size()/format.SectorSize))
	if _, err := w.out.Write(bytes.Repeat([]byte{0xff}, int(bitmapSize(blockSize)))); err != nil {
		return err
	}
	w.block, w.start = block, w.out.Size()
	return nil
}

func (w *dynamicWriter) end() error {
	if w.block < 0 {
		return nil
	}
	return extend(w.out, w.start+blockSize)
}

func (w *dynamicWriter) Finish(s format.Summary) error {
	if err := w.end(); err != nil {
		return err
	}
	rawFooter, err := encode(newFooter(diskDynamic, footerSize, w.size, w.id, s.Identity, w.stamp), footerChecksumOffset)
	if err != nil {
		return err
	}
	h := header{
		DataOffset: noOffset, TableOffset: footerSize + headerSize, Version: version1,
		MaxTableEntries: uint32(blocks(w.size, blockSize)), BlockSize: blockSize,
	}
	copy(h.Cookie[:], headerCookie)
	rawHeader, err := encode(h, headerChecksumOffset)
	if err != nil {
		return err
	}
	if _, err := w.out.Write(rawFooter); err != nil {
		return err
	}
	_, err = w.out.WriteAt(bytes.Join([][]byte{rawFooter, rawHeader, w.table}, nil), 0)
	return err
}

// extend makes the output size bytes long if it is shorter, with a hole.
func extend(out *format.Output, size int64) error {
	if out.Size() >= size {
		return nil
	}
	return out.Resize(size)
}
