package ova

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
)

// block is the unit of a tar archive, in bytes.
const block = 512

// maxUSTAR is the largest file that a ustar header can describe, in bytes; only
// larger ones take GNU's form of the size.
const maxUSTAR = 8<<30 - 1

// writer writes the package: the descriptor's room, the VMDK, then manifest,
// signature and what was left out before.
type writer struct {
	out      *format.Output
	options  Options
	capacity int64
	room     int64 // of the descriptor, in bytes
	diskAt   int64 // offset of the VMDK in out
	disk     *format.Output
	writer   format.Writer
}

// New makes a writer of an OVA of a disk of diskSize bytes.
func (o Options) New(out *format.Output, diskSize int64) (format.Writer, error) {
	options, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	// No descriptor of this disk is longer than that with the largest numbers.
	longest, err := options.descriptor(diskSize, math.MaxInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	w := &writer{out: out, options: options, capacity: diskSize, room: int64(len(longest))}
	w.diskAt = block + (w.room+block-1)/block*block + block
	if err := out.Skip(w.diskAt); err != nil {
		return nil, err
	}
	if w.disk, err = out.Part(); err != nil {
		return nil, err
	}
	w.writer, err = options.newDisk(w.disk, diskSize)
	return w, err
}

func (w *writer) Codec() format.Codec { return w.writer.Codec() }

func (w *writer) WriteBlock(b format.Block) error { return w.writer.WriteBlock(b) }

func (w *writer) Finish(s format.Summary) error {
	if err := w.writer.Finish(s); err != nil {
		return err
	}
	if err := w.out.Adopt(w.disk); err != nil {
		return err
	}
	size := w.disk.Size()
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(w.disk, 0, size)); err != nil {
		return fmt.Errorf("read the VMDK back for its digest: %w", err)
	}
	if err := w.out.Pad(block); err != nil {
		return err
	}
	descriptor, err := w.options.descriptor(w.capacity, s.Data, size)
	if err != nil {
		return err
	}
	// White space may follow an XML document (XML 1.0, production 27).
	descriptor = append(descriptor, bytes.Repeat([]byte("\n"), int(w.room)-len(descriptor))...)
	manifest := fmt.Appendf(nil, "SHA256(%s.ovf)= %x\nSHA256(%s)= %x\n",
		w.options.Name, sha256.Sum256(descriptor), w.options.diskName(), digest.Sum(nil))
	if err := w.append(w.options.Name+".mf", manifest); err != nil {
		return err
	}
	if w.options.Signer != nil {
		signature, err := w.options.Signer.sign(w.options.Name+".mf", manifest)
		if err != nil {
			return err
		}
		if err := w.append(w.options.Name+".cert", signature); err != nil {
			return err
		}
	}
	if _, err := w.out.Write(make([]byte, 2*block)); err != nil { // the archive's end
		return err
	}
	return w.patch(descriptor, size)
}

// append writes a small file.
func (w *writer) append(name string, content []byte) error {
	h, err := header(name, int64(len(content)))
	if err != nil {
		return err
	}
	if _, err := w.out.Write(append(h, content...)); err != nil {
		return err
	}
	return w.out.Pad(block)
}

// patch fills what was left out at the begin.
func (w *writer) patch(descriptor []byte, diskSize int64) error {
	first, err := header(w.options.Name+".ovf", int64(len(descriptor)))
	disk, err2 := header(w.options.diskName(), diskSize)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(append(first, descriptor...), 0); err != nil {
		return err
	}
	_, err = w.out.WriteAt(disk, w.diskAt-block)
	return err
}

// header is a file's header in the archive: one block.
func header(name string, size int64) ([]byte, error) {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	if size > maxUSTAR {
		h.Format = tar.FormatGNU
	}
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("archive header of %s: %w", name, err)
	}
	return buf.Bytes(), nil
}
