// Package gce writes and reads the images that Google Compute Engine imports: a
// disk named disk.raw in an old GNU tar archive, compressed by gzip.
//
// What comes in is a disk's blocks; what goes out is one gzip stream with one
// sparse member, whose holes take no room, so that an empty disk of any size is
// tiny. The file depends on the disk's content alone. The writer holds a map of
// 1024 ranges, the reader one of a million and 32 MiB of the disk.
//
// The archive's layout is GNU tar's ("Basic Tar Format", "Old GNU Format" in its
// manual), the compression's RFC 1951 and RFC 1952.
package gce

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/format"
)

// Format is the table row.
var Format = format.Format{
	Name: "gce", Suffix: ".tar.gz",
	Probe: Probe,
	Open:  Open,
	New:   New, Revision: 2, SizeUnit: sizeUnit, Sequential: true,
}

// Probe reports whether the file is a gzip file that begins with a tar header
// for disk.raw.
func Probe(r io.ReaderAt, size int64) (bool, error) {
	if size < int64(len(gzipHeader)) {
		return false, nil
	}
	s, err := newStream(r, size)
	if err == nil {
		raw := make([]byte, tarBlock)
		if _, err = io.ReadFull(s, raw); err == nil {
			_, err = decodeHeader(raw)
		}
	}
	if s.cause != nil {
		return false, fmt.Errorf("look for a tar archive: %w", s.cause)
	}
	return err == nil, nil
}

// Open reads the archive's header. A gzip file can only be read from its begin,
// so the Source is made for readers that go forward: what lies up to 32 MiB
// behind the furthest read is at hand, and a read before that inflates the file
// again up to there. Checksums are checked with the last of the data.
func Open(r io.ReaderAt, size int64) (format.Source, error) {
	s, err := newStream(r, size)
	if err != nil {
		return nil, s.explain(err)
	}
	m, err := readMember(s)
	if err != nil {
		return nil, s.explain(err)
	}
	return &disk{member: m, r: r, fileSize: size, stream: s, window: make([][]byte, windowChunks)}, nil
}

// stream inflates a file.
type stream struct {
	*gzip.Reader
	cause error // why the file could not be read, if it could not
	file  io.Reader
}

// newStream returns a stream even if it fails, for its cause.
func newStream(r io.ReaderAt, size int64) (s *stream, err error) {
	s = &stream{file: io.NewSectionReader(r, 0, size)}
	s.Reader, err = gzip.NewReader(bufio.NewReaderSize(fileReader{s}, 128<<10))
	return s, err
}

// fileReader notes the errors of the file.
type fileReader struct{ *stream }

func (f fileReader) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	if err != nil && err != io.EOF {
		f.cause = err
	}
	return n, err
}

// explain says that the image is damaged unless the file could not be read.
func (s *stream) explain(err error) error {
	switch {
	case s.cause != nil:
		return fmt.Errorf("inflate: %w", s.cause)
	case errors.Is(err, format.ErrCorrupt):
		return err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case !isDamage(err):
		return err
	}
	return fmt.Errorf("inflate: %w: %w", err, format.ErrCorrupt)
}

// The window is made of chunks of chunkSize bytes.
const (
	chunkSize    = 256 << 10
	windowChunks = 128
)

// tailMax is how much may follow the disk in the archive and still be checked,
// in bytes; GNU tar's records have 10 KiB, larger ones are an option of it.
const tailMax = 1 << 20

// disk is an archive's member as a Source.
type disk struct {
	*member
	r        io.ReaderAt
	fileSize int64

	mu     sync.Mutex
	stream *stream // behind the first next chunks of data; nil to begin anew
	next   int64
	window [][]byte // of chunk i, at i modulo its length
}

// Size is the disk's size in bytes.
func (d *disk) Size() int64 { return d.size }

// after is the index of the first range that ends behind offset.
func (d *disk) after(offset int64) int {
	i, _ := slices.BinarySearchFunc(d.ranges, offset, func(p piece, offset int64) int {
		if p.End() <= offset {
			return -1
		}
		return 1
	})
	return i
}

// NextData returns the ranges that the archive holds.
func (d *disk) NextData(offset int64) (format.Extent, error) {
	i := d.after(offset)
	if i == len(d.ranges) {
		return format.Extent{}, io.EOF
	}
	start := max(offset, d.ranges[i].Offset)
	return format.Extent{Offset: start, Length: d.ranges[i].End() - start}, nil
}

// ReadAt reads ranges, and zeros between them.
func (d *disk) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > d.size {
		return 0, fmt.Errorf("read at byte %d of a disk of %d", offset, d.size)
	}
	var atEnd error
	if rest := d.size - offset; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	clear(p)
	end := offset + int64(len(p))
	for i := d.after(offset); i < len(d.ranges) && d.ranges[i].Offset < end; i++ {
		from := max(offset, d.ranges[i].Offset)
		part := p[from-offset : min(end, d.ranges[i].End())-offset]
		if err := d.readStored(part, d.ranges[i].stored+from-d.ranges[i].Offset); err != nil {
			return int(from - offset), fmt.Errorf("read the disk at byte %d: %w", from, err)
		}
	}
	return len(p), atEnd
}

// readStored reads from the member's bytes in the archive.
func (d *disk) readStored(p []byte, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(p) > 0 {
		chunk, err := d.chunk(offset / chunkSize)
		if err != nil {
			return err
		}
		n := copy(p, chunk[offset%chunkSize:])
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// chunk returns a chunk of the data, from the window or by inflating up to it.
func (d *disk) chunk(index int64) ([]byte, error) {
	if index < d.next-windowChunks || d.stream == nil {
		if err := d.rewind(); err != nil {
			return nil, err
		}
	}
	for d.next <= index {
		if err := d.inflate(); err != nil {
			err = d.stream.explain(err)
			d.stream, d.next = nil, 0
			return nil, err
		}
	}
	return d.window[index%windowChunks], nil
}

// rewind begins anew, behind the header.
func (d *disk) rewind() error {
	s, err := newStream(d.r, d.fileSize)
	if err == nil {
		_, err = io.CopyN(io.Discard, s, d.header)
	}
	if err != nil {
		return s.explain(err)
	}
	d.stream, d.next = s, 0
	return nil
}

// inflate puts the next chunk into the window.
func (d *disk) inflate() error {
	slot := &d.window[d.next%windowChunks]
	length := min(chunkSize, d.stored-d.next*chunkSize)
	if int64(cap(*slot)) < length {
		*slot = make([]byte, length)
	}
	*slot = (*slot)[:length]
	if _, err := io.ReadFull(d.stream, *slot); err != nil {
		return err
	}
	d.next++
	if d.next*chunkSize >= d.stored {
		// The checksum stands behind the archive's end.
		if _, err := io.CopyN(io.Discard, d.stream, tailMax); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// isDamage reports whether gzip or deflate says that its input breaks its rules.
func isDamage(err error) bool {
	var deflate flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &deflate)
}
