package gce

import (
	"bytes"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/flate"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/deflate"
)

// sizeUnit is what Compute Engine wants a disk's size to be a multiple of, in
// bytes.
const sizeUnit = 1 << 30

// maxExtents is how many ranges of data the archive's map can have. The map
// stands before the data but is known only behind them, so there has to be room
// for the longest. Holes for which no entry is left are written as zeros.
const maxExtents = 1024

// reserved is that room in the file, in bytes: gzip's header and the longest
// tar header (a last entry for the hole at the end included) as a stored block.
var reserved = int64(len(gzipHeader)) + storedOverhead + headerSize(maxExtents+1)

// writer appends blocks as they come, then puts the header before them.
type writer struct {
	out     *format.Output
	size    int64 // of the disk, whole GiB, in bytes
	extents []format.Extent
	zero    []byte // an encoded block of zeros
	crc     uint32 // of all blocks so far, those of zeros included
	scratch []byte // for joinable
}

// New makes a writer of a disk of diskSize bytes, rounded up to whole GiB as
// Compute Engine wants it.
func New(out *format.Output, diskSize int64) (format.Writer, error) {
	if diskSize < 0 || diskSize > format.MaxSize {
		return nil, fmt.Errorf("a Compute Engine image of %d bytes: at most %d are handled", diskSize, int64(format.MaxSize))
	}
	encoder, err := deflate.Codec{}.NewEncoder()
	if err != nil {
		return nil, err
	}
	zero, err := encoder.Encode(nil, zeros)
	if err != nil {
		return nil, err
	}
	size := (diskSize + sizeUnit - 1) / sizeUnit * sizeUnit
	return &writer{out: out, size: size, zero: zero}, nil
}

var zeros = make([]byte, format.BlockSize)

func (w *writer) Codec() format.Codec { return deflate.Codec{} }

func (w *writer) WriteBlock(b format.Block) error {
	if len(w.extents) == 0 {
		if err := w.out.Skip(reserved); err != nil {
			return err
		}
	}
	if hole := b.Offset - w.end(); w.affords(hole) {
		w.extents = append(w.extents, format.Extent{Offset: b.Offset})
	} else {
		for ; hole > 0; hole -= format.BlockSize {
			if err := w.append(w.zero, zeros); err != nil {
				return err
			}
		}
	}
	return w.append(b.Encoded, b.Data)
}

// end is the first byte of the disk behind what was written.
func (w *writer) end() int64 {
	if len(w.extents) == 0 {
		return 0
	}
	return w.extents[len(w.extents)-1].End()
}

// affords reports whether a hole gets an entry of the map: each may cost no
// more entries than its share of the rest of the disk. So small holes get some
// where data is dense, and there is always one left for a large hole.
func (w *writer) affords(hole int64) bool {
	left := int64(maxExtents - len(w.extents))
	return left == maxExtents || hole > 0 && hole*left >= w.size-w.end()
}

// append adds a block to the last extent.
func (w *writer) append(encoded, data []byte) error {
	body, tail, err := joinable(encoded, w.scratch)
	if err != nil {
		return err
	}
	w.scratch = tail
	for _, part := range [][]byte{body, tail} {
		if _, err := w.out.Write(part); err != nil {
			return err
		}
	}
	w.crc = crc32.Update(w.crc, crc32.IEEETable, data)
	w.extents[len(w.extents)-1].Length += int64(len(data))
	return nil
}

func (w *writer) Finish(format.Summary) error {
	header, err := encodeHeader(w.extents, w.size)
	if err != nil {
		return err
	}
	var data int64
	for _, e := range w.extents {
		data += e.Length
	}
	// Two zero blocks end an archive, and GNU tar fills up its last record.
	used := int64(len(header)) + data
	tail := make([]byte, (used+2*tarBlock+tarRecord-1)/tarRecord*tarRecord-used)
	crc := combineCRC(crc32.ChecksumIEEE(header), w.crc, data)
	crc = crc32.Update(crc, crc32.IEEETable, tail)

	begin := storeBlock(bytes.Clone(gzipHeader), header)
	if len(w.extents) > 0 {
		begin = padDeflate(begin, int(reserved)-len(begin))
		_, err = w.out.WriteAt(begin, 0)
	} else {
		_, err = w.out.Write(begin)
	}
	if err != nil {
		return err
	}
	if err := w.finishStream(tail); err != nil {
		return err
	}
	_, err = w.out.Write(gzipTrailer(crc, used+int64(len(tail))))
	return err
}

// finishStream appends the last blocks of the deflate stream.
func (w *writer) finishStream(tail []byte) error {
	stream, err := flate.NewWriter(w.out, deflate.Level)
	if err != nil {
		return fmt.Errorf("deflate: %w", err)
	}
	if _, err := stream.Write(tail); err != nil {
		return err
	}
	return stream.Close()
}
