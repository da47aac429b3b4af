// Package raw is the disk itself, byte for byte, as a sparse file.
//
// Any file is a raw disk; a size that is no whole number of sectors is rounded
// up with zeros, as QEMU does it. The writer leaves holes where blocks are zero.
package raw

import (
	"errors"
	"fmt"
	"io"
	"os"

	"nodesmith.dev/nodesmith/internal/format"
)

// Format is the table row.
var Format = format.Format{
	Name: "raw", Suffix: ".raw",
	Probe: func(io.ReaderAt, int64) (bool, error) { return true, nil },
	Open:  func(r io.ReaderAt, size int64) (format.Source, error) { return Open(r, size) },
	New:   New, Revision: 1, SizeUnit: format.SectorSize, QEMU: "raw",
}

// Disk is a raw disk.
type Disk struct {
	r    io.ReaderAt
	file *os.File // for holes; nil where r is no file
	size int64    // of r, in bytes
}

// Open makes a Source of the size bytes of r. Holes are found where r is an
// *os.File on a file system that tells of them.
func Open(r io.ReaderAt, size int64) (*Disk, error) {
	if size < 0 || size > format.MaxSize {
		return nil, fmt.Errorf("raw disk of %d bytes: at most %d are handled", size, int64(format.MaxSize))
	}
	file, _ := r.(*os.File)
	return &Disk{r, file, size}, nil
}

// Size is the file's size rounded up to whole sectors.
func (d *Disk) Size() int64 {
	return (d.size + format.SectorSize - 1) / format.SectorSize * format.SectorSize
}

// ReadAt reads the file, and zeros in the part of the last sector that it lacks.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > d.Size() {
		return 0, fmt.Errorf("read at byte %d of a disk of %d", offset, d.Size())
	}
	var atEnd error
	if rest := d.Size() - offset; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	want := max(0, min(int64(len(p)), d.size-offset))
	n, err := d.r.ReadAt(p[:want], offset)
	if int64(n) < want {
		if err == nil || err == io.EOF {
			err = fmt.Errorf("the file ends before its %d bytes: %w", d.size, io.ErrUnexpectedEOF)
		}
		return n, err
	}
	clear(p[want:])
	return len(p), atEnd
}

// NextData asks the file system for its holes.
func (d *Disk) NextData(offset int64) (format.Extent, error) {
	if offset >= d.size {
		return format.Extent{}, io.EOF
	}
	rest := format.Extent{Offset: offset, Length: d.Size() - offset}
	if d.file == nil {
		return rest, nil
	}
	start, end, err := nextData(d.file, offset)
	if errors.Is(err, errNoHoles) {
		return rest, nil
	}
	if err != nil {
		return format.Extent{}, err
	}
	if end >= d.size {
		end = d.Size()
	}
	return format.Extent{Offset: start, Length: end - start}, nil
}

// errNoHoles says that a file's holes can't be told: a pipe, a device, a file
// system or an operating system without them. All of it may be data.
var errNoHoles = errors.New("holes are not told")

// writer leaves a hole wherever it gets no block.
type writer struct {
	out  *format.Output
	size int64
}

// New makes a writer of a raw disk of diskSize bytes.
func New(out *format.Output, diskSize int64) (format.Writer, error) {
	return &writer{out, diskSize}, nil
}

func (w *writer) Codec() format.Codec { return nil }

func (w *writer) WriteBlock(b format.Block) error {
	if gap := b.Offset - w.out.Size(); gap > 0 {
		if err := w.out.Skip(gap); err != nil {
			return err
		}
	}
	_, err := w.out.Write(b.Data[:min(format.BlockSize, w.size-b.Offset)])
	return err
}

func (w *writer) Finish(format.Summary) error {
	if w.out.Size() == w.size {
		return nil
	}
	return w.out.Resize(w.size)
}
