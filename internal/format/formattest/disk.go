package formattest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
)

// page is the unit in which a Disk holds what is not zero, in bytes.
const page = 4096

// Disk is a sparse disk in memory.
type Disk struct {
	size  int64
	pages map[int64][]byte // by index
	order []int64          // of pages, ascending
}

// NewDisk makes a disk of size zero bytes.
func NewDisk(size int64) *Disk { return &Disk{size: size, pages: map[int64][]byte{}} }

// Put writes content at offset; what lies behind the end is cut.
func (d *Disk) Put(offset int64, content []byte) {
	content = content[:max(0, min(int64(len(content)), d.size-offset))]
	for len(content) > 0 {
		index := offset / page
		if d.pages[index] == nil {
			d.pages[index] = make([]byte, page)
			at, _ := slices.BinarySearch(d.order, index)
			d.order = slices.Insert(d.order, at, index)
		}
		n := copy(d.pages[index][offset%page:], content)
		offset, content = offset+int64(n), content[n:]
	}
}

// Random writes length bytes from r at offset.
func (d *Disk) Random(r *rand.Rand, offset, length int64) {
	content := make([]byte, length)
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	d.Put(offset, content)
}

// Size is the disk's size in bytes.
func (d *Disk) Size() int64 { return d.size }

// ReadAt follows io.ReaderAt.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > d.size {
		return 0, fmt.Errorf("read at byte %d of a disk of %d", offset, d.size)
	}
	var atEnd error
	if int64(len(p)) > d.size-offset {
		p, atEnd = p[:d.size-offset], io.EOF
	}
	for n := 0; n < len(p); {
		at := offset + int64(n)
		part := p[n:min(len(p), n+int(page-at%page))]
		clear(part)
		if content := d.pages[at/page]; content != nil {
			copy(part, content[at%page:])
		}
		n += len(part)
	}
	return len(p), atEnd
}

// NextData returns the next pages that something was put into.
func (d *Disk) NextData(offset int64) (format.Extent, error) {
	i, _ := slices.BinarySearch(d.order, offset/page)
	if i == len(d.order) {
		return format.Extent{}, io.EOF
	}
	start, end := d.order[i], d.order[i]+1
	for i++; i < len(d.order) && d.order[i] == end; i++ {
		end++
	}
	from := max(offset, start*page)
	return format.Extent{Offset: from, Length: min(end*page, d.size) - from}, nil
}

// File writes the disk to a sparse file that goes with the test.
func (d *Disk) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for index, content := range d.pages {
		if _, err := f.WriteAt(content, index*page); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(d.size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func (d *Disk) bytes() []byte {
	content := make([]byte, d.size)
	_, _ = d.ReadAt(content, 0) // a disk in memory has no errors
	return content
}

// allData is a source that does not know its holes.
type allData struct{ format.Source }

func (d allData) NextData(offset int64) (format.Extent, error) {
	if offset >= d.Size() {
		return format.Extent{}, io.EOF
	}
	return format.Extent{Offset: offset, Length: d.Size() - offset}, nil
}

// Equal fails the test unless got holds want, followed by nothing but zeros,
// and says truly where its data lies.
func Equal(t testing.TB, got format.Source, want *Disk) {
	t.Helper()
	compare := func(extent format.Extent) {
		a, b := make([]byte, mib), make([]byte, mib)
		for offset := extent.Offset; offset < extent.End(); offset += mib {
			n := min(mib, extent.End()-offset)
			if _, err := got.ReadAt(a[:n], offset); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("read at byte %d: %v", offset, err)
			}
			clear(b)
			if offset < want.size {
				_, _ = want.ReadAt(b[:min(n, want.size-offset)], offset) // in memory
			}
			if !bytes.Equal(a[:n], b[:n]) {
				t.Fatalf("other content within %d bytes from byte %d on", n, offset)
			}
		}
	}
	covered := func(extent format.Extent) { // nothing of want may lie in a hole of got
		for extent.Length > 0 {
			data, err := want.NextData(extent.Offset)
			if err == io.EOF || data.Offset >= extent.End() {
				return
			}
			content := make([]byte, min(data.End(), extent.End())-data.Offset)
			_, _ = want.ReadAt(content, data.Offset) // in memory
			if !bytes.Equal(content, make([]byte, len(content))) {
				t.Fatalf("data near byte %d is said to be a hole", data.Offset)
			}
			extent = format.Extent{Offset: data.Offset + int64(len(content)), Length: extent.End() - data.Offset - int64(len(content))}
		}
	}
	offset := int64(0)
	for {
		extent, err := got.NextData(offset)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("find data from byte %d on: %v", offset, err)
		}
		if extent.Offset < offset || extent.Length <= 0 || extent.End() > got.Size() {
			t.Fatalf("extent %+v after byte %d of %d", extent, offset, got.Size())
		}
		covered(format.Extent{Offset: offset, Length: extent.Offset - offset})
		compare(extent)
		offset = extent.End()
	}
	covered(format.Extent{Offset: offset, Length: want.size - offset})
	// Holes read as zeros: the begin of the first and the end of the disk.
	compare(format.Extent{Offset: max(0, got.Size()-mib), Length: min(mib, got.Size())})
	compare(format.Extent{Offset: 0, Length: min(mib, got.Size())})
}
