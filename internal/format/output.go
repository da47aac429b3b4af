package format

import (
	"fmt"
	"io"
)

// File is what an Output needs of a file; *os.File has it.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Output is the file, or the part of a file, that a Writer writes. Write
// appends through a buffer of outputBuffer bytes; WriteAt goes anywhere. It is
// for the use of one goroutine.
type Output struct {
	file File
	base int64 // where the part begins in file
	size int64 // bytes in the part, those in buf included
	buf  []byte
	hole bool // the part ends with a hole that the file does not have yet
	// begun is up to where the kernel was asked to write, in bytes of the part.
	begun int64
}

// writebackUnit is how much the kernel is asked to write at once, in bytes. It would
// begin seconds later by itself: all of the file would be left to the wait for its end,
// which nothing can interrupt.
const writebackUnit = 16 << 20

// outputBuffer is how much Write collects before it calls the kernel, in bytes.
const outputBuffer = 1 << 20

// NewOutput writes to f from base on.
func NewOutput(f File, base int64) *Output {
	return &Output{file: f, base: base, buf: make([]byte, 0, outputBuffer)}
}

// Size is the number of bytes from the Output's begin to its end so far.
func (o *Output) Size() int64 { return o.size }

// Write appends.
func (o *Output) Write(p []byte) (int, error) {
	if len(o.buf)+len(p) > cap(o.buf) {
		if err := o.Flush(); err != nil {
			return 0, err
		}
	}
	if len(p) >= cap(o.buf) {
		n, err := o.file.WriteAt(p, o.base+o.size)
		o.size += int64(n)
		return n, err
	}
	o.buf = append(o.buf, p...)
	o.size += int64(len(p))
	return len(p), nil
}

// Pad appends zeros up to the next multiple of unit, in bytes.
func (o *Output) Pad(unit int64) error {
	if rest := o.size % unit; rest != 0 {
		return o.Skip(unit - rest)
	}
	return nil
}

// Skip appends n zero bytes; long runs become a hole of the file.
func (o *Output) Skip(n int64) error {
	if n < outputBuffer/2 {
		_, err := o.Write(make([]byte, n))
		return err
	}
	if err := o.Flush(); err != nil {
		return err
	}
	o.size += n
	o.hole = true
	return nil
}

// WriteAt writes p at offset, counted from the Output's begin. What lies
// between the end so far and offset becomes a hole.
func (o *Output) WriteAt(p []byte, offset int64) (int, error) {
	if err := o.Flush(); err != nil {
		return 0, err
	}
	n, err := o.file.WriteAt(p, o.base+offset)
	o.size = max(o.size, offset+int64(n))
	return n, err
}

// ReadAt reads back what was written.
func (o *Output) ReadAt(p []byte, offset int64) (int, error) {
	if err := o.Flush(); err != nil {
		return 0, err
	}
	return o.file.ReadAt(p, o.base+offset)
}

// Resize cuts the Output at size bytes, or extends it with a hole. It must be
// the last part of its file.
func (o *Output) Resize(size int64) error {
	o.hole = false
	if err := o.Flush(); err != nil {
		return err
	}
	if err := o.file.Truncate(o.base + size); err != nil {
		return fmt.Errorf("resize to %d bytes: %w", o.base+size, err)
	}
	o.size, o.hole = size, false
	return nil
}

// Flush hands what Write collected to the kernel.
func (o *Output) Flush() error {
	if len(o.buf) == 0 {
		if o.hole {
			return o.Resize(o.size)
		}
		return nil
	}
	_, err := o.file.WriteAt(o.buf, o.base+o.size-int64(len(o.buf)))
	o.buf, o.hole = o.buf[:0], false
	if o.size-o.begun >= writebackUnit {
		startWriteback(o.file, o.base+o.begun, o.size-o.begun)
		o.begun = o.size
	}
	return err
}

// Part returns an Output for what follows the end so far, in the same file.
// The caller flushes it and takes it over with Adopt.
func (o *Output) Part() (*Output, error) {
	if err := o.Flush(); err != nil {
		return nil, err
	}
	return NewOutput(o.file, o.base+o.size), nil
}

// Adopt extends the Output by what was written to a Part of it.
func (o *Output) Adopt(part *Output) error {
	if err := part.Flush(); err != nil {
		return err
	}
	o.size = part.base - o.base + part.size
	return nil
}
