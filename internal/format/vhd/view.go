package vhd

import (
	"errors"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/format"
)

// View is a disk as the fixed VHD that NewFixed would write of it: the disk, zeros
// up to whole MiB, and the footer. Nothing is copied: an upload reads of it what
// NextData names. It is a format.Source; ReadAt follows that of the disk.
type View struct {
	disk   format.Source
	size   int64 // of the disk in whole MiB, in bytes
	footer []byte
}

// NewView makes the view of a disk. The options need an ID, as the content that
// would give one is not read.
func NewView(disk format.Source, options Options) (*View, error) {
	if disk.Size() > MaxSize {
		return nil, fmt.Errorf("a fixed VHD of %d bytes: the format has room for %d", disk.Size(), int64(MaxSize))
	}
	if options.ID == ([16]byte{}) {
		return nil, errors.New("a VHD that is made while it is read needs an ID")
	}
	stamp, err := options.timeStamp()
	if err != nil {
		return nil, err
	}
	size := alignUp(disk.Size(), azureUnit)
	footer, err := encode(newFooter(diskFixed, noOffset, size, options.ID, [16]byte{}, stamp), footerChecksumOffset)
	if err != nil {
		return nil, err
	}
	return &View{disk, size, footer}, nil
}

// Size is the file's size, with its footer.
func (v *View) Size() int64 { return v.size + footerSize }

// ReadAt reads the file.
func (v *View) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > v.Size() {
		return 0, fmt.Errorf("read at byte %d of a VHD of %d", offset, v.Size())
	}
	n := 0
	if rest := v.disk.Size() - offset; rest > 0 && len(p) > 0 {
		want := min(int64(len(p)), rest)
		got, err := v.disk.ReadAt(p[:want], offset)
		if n = got; int64(got) < want {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if rest := v.size - offset - int64(n); rest > 0 && n < len(p) {
		want := min(int64(len(p)-n), rest)
		clear(p[n : n+int(want)])
		n += int(want)
	}
	if n < len(p) {
		n += copy(p[n:], v.footer[offset+int64(n)-v.size:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// NextData names what the disk names, and the footer.
func (v *View) NextData(offset int64) (format.Extent, error) {
	if offset >= v.Size() {
		return format.Extent{}, io.EOF
	}
	if offset < v.disk.Size() {
		extent, err := v.disk.NextData(offset)
		if !errors.Is(err, io.EOF) {
			return extent, err
		}
	}
	at := max(offset, v.size)
	return format.Extent{Offset: at, Length: v.Size() - at}, nil
}
