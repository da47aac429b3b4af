package ext4

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Image is a file system as a map from its extents to what they hold. All else
// is zero. It is safe for concurrent use.
type Image struct {
	size   int64
	pieces []piece // ascending, without overlap
}

// piece is a range of blocks that lies in one piece on both sides.
type piece struct {
	start, length int64 // in bytes
	// data is metadata; a shorter one is followed by zeros.
	data []byte
	// entry is the file whose content lies here, from offset on.
	entry  *Entry
	offset int64
}

func (p piece) end() int64 { return p.start + p.length }

// put adds metadata at a block. The data may not change afterwards.
func (i *Image) put(block uint64, data []byte) {
	if len(data) > 0 {
		i.pieces = append(i.pieces, piece{start: int64(block) * int64(blockSize), length: int64(align(len(data), blockSize)), data: data})
	}
}

// putObject adds the content of an object that is in memory.
func (i *Image) putObject(o *object, data []byte) {
	for _, e := range o.extents {
		from := min(int(e.logical)*blockSize, len(data))
		i.put(e.physical, data[from:min(from+int(e.length)*blockSize, len(data))])
	}
}

// putFile adds the content of a file.
func (i *Image) putFile(o *object) {
	for _, e := range o.extents {
		i.pieces = append(i.pieces, piece{
			start: int64(e.physical) * int64(blockSize), length: int64(e.length) * int64(blockSize),
			entry: o.node.Entry, offset: int64(e.logical) * int64(blockSize),
		})
	}
}

// finish orders the pieces.
func (i *Image) finish() {
	slices.SortFunc(i.pieces, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
}

// Size is the file system's, in bytes.
func (i *Image) Size() int64 { return i.size }

// next returns the index of the first piece that ends behind an offset.
func (i *Image) next(offset int64) int {
	index, _ := slices.BinarySearchFunc(i.pieces, offset, func(p piece, offset int64) int {
		if p.end() <= offset {
			return -1
		}
		return 1
	})
	return index
}

// NextData returns the first range at or after offset that may hold something
// else than zeros, cut at offset; io.EOF when only zeros follow.
func (i *Image) NextData(offset int64) (Range, error) {
	index := i.next(offset)
	if index == len(i.pieces) {
		return Range{}, io.EOF
	}
	start := max(i.pieces[index].start, offset)
	end := i.pieces[index].end()
	for index++; index < len(i.pieces) && i.pieces[index].start == end; index++ {
		end = i.pieces[index].end()
	}
	return Range{start, end - start}, nil
}

// ReadAt implements io.ReaderAt. It opens each file whose content it reads, and
// closes it again.
func (i *Image) ReadAt(p []byte, offset int64) (int, error) {
	r := reader{image: i}
	defer r.close()
	return r.ReadAt(p, offset)
}

// reader reads an image and keeps the file open that it read last.
type reader struct {
	image *Image
	entry *Entry
	file  ReadAtCloser
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("ext4: negative offset")
	}
	short := error(nil)
	if left := max(r.image.size-offset, 0); int64(len(p)) > left {
		p, short = p[:left], io.EOF
	}
	done := 0
	for index := r.image.next(offset); done < len(p); index++ {
		at := offset + int64(done)
		if index == len(r.image.pieces) || r.image.pieces[index].start >= offset+int64(len(p)) {
			clear(p[done:])
			break
		}
		piece := &r.image.pieces[index]
		if gap := piece.start - at; gap > 0 {
			clear(p[done : done+int(gap)])
			done, at = done+int(gap), piece.start
		}
		n := int(min(piece.end()-at, int64(len(p)-done)))
		if err := r.read(piece, p[done:done+n], at-piece.start); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), short
}

// read reads from a piece, which has as much.
func (r *reader) read(piece *piece, p []byte, offset int64) error {
	if piece.entry == nil {
		n := copy(p, piece.data[min(offset, int64(len(piece.data))):])
		clear(p[n:])
		return nil
	}
	if r.entry != piece.entry || r.file == nil {
		r.close()
		file, err := piece.entry.Content.Open()
		if err != nil {
			return fmt.Errorf("ext4: %s: %w", piece.entry.Path, err)
		}
		r.entry, r.file = piece.entry, file
	}
	offset += piece.offset
	want := int(min(max(piece.entry.Content.Size()-offset, 0), int64(len(p))))
	clear(p[want:])
	if n, err := r.file.ReadAt(p[:want], offset); n < want {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("ext4: %s: read %d bytes at %d: %w", piece.entry.Path, want, offset, err)
	}
	return nil
}

// errNeverRead is the error of content that is all zeros.
var errNeverRead = errors.New("content that is never read was read")

const (
	// window is what is read and written at once.
	window = 1 << 20
	// hole is the length from which zeros are not written.
	hole = 64 << 10
	// writers is how many windows are in memory at most.
	writers = 4
)

// Write writes the image into a file that reads as zeros, from offset on. Zeros
// are left out.
func (i *Image) Write(ctx context.Context, w io.WriterAt, offset int64) error {
	group, ctx := errgroup.WithContext(ctx)
	windows := make(chan int64)
	group.Go(func() error {
		defer close(windows)
		for at := int64(0); ; {
			data, err := i.NextData(at)
			if err != nil {
				return nil
			}
			at = data.Offset &^ (window - 1)
			select {
			case windows <- at:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			at += window
		}
	})
	for range min(writers, runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			r, buffer := reader{image: i}, make([]byte, window)
			defer r.close()
			for at := range windows {
				n, err := r.ReadAt(buffer, at)
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if err := writeData(w, buffer[:n], offset+at); err != nil {
					return fmt.Errorf("ext4: %w", err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

var zeroHole [hole]byte

// writeData writes the parts of a window that are not zero.
func writeData(w io.WriterAt, p []byte, offset int64) error {
	for len(p) > 0 {
		length := 0
		for length < len(p) {
			n := min(hole, len(p)-length)
			if bytes.Equal(p[length:length+n], zeroHole[:n]) {
				break
			}
			length += n
		}
		if length > 0 {
			if _, err := w.WriteAt(p[:length], offset); err != nil {
				return err
			}
		}
		length = min(max(length, hole), len(p))
		p, offset = p[length:], offset+int64(length)
	}
	return nil
}
