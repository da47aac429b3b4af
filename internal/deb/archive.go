package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// ar(5) as deb(5) uses it: a magic line, then members with a 60-byte header.
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arSizeOffset = 48 // ten decimal digits
	arSizeLength = 10
)

// DataTar returns the uncompressed data.tar of a .deb archive: the files that it
// installs. The reader must be closed; it ends with ctx.
func DataTar(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	return memberTar(ctx, archive, "data.tar")
}

// ControlTar is DataTar for control.tar: what the package says of itself, and its
// maintainer's scripts.
func ControlTar(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	return memberTar(ctx, archive, "control.tar")
}

// maxControl bounds a package's control file (bytes). Debian's longest is 20 KiB.
const maxControl = 1 << 20

// Control returns the control file of a .deb archive: the package's stanza, as
// an index has it but for the archive's own address, size and digests.
func Control(ctx context.Context, archive io.Reader) (_ []byte, err error) {
	data, err := ControlTar(ctx, archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	files := tar.NewReader(data)
	for {
		header, err := files.Next()
		if err != nil {
			return nil, fmt.Errorf(".deb archive: control.tar without a control file: %w", err)
		}
		if path.Clean(header.Name) != "control" {
			continue
		}
		if header.Size > maxControl {
			return nil, fmt.Errorf(".deb archive: a control file of %d bytes, more than %d", header.Size, maxControl)
		}
		return io.ReadAll(files)
	}
}

// memberTar returns the uncompressed tar of a .deb archive whose name begins so.
func memberTar(ctx context.Context, archive io.Reader, prefix string) (io.ReadCloser, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(archive, magic); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("not a .deb archive: it does not begin with %q", arMagic)
	}
	for {
		header := make([]byte, arHeaderSize)
		if _, err := io.ReadFull(archive, header); err != nil {
			return nil, fmt.Errorf(".deb archive without %s: %w", prefix, err)
		}
		name := strings.TrimRight(string(header[:16]), " /")
		size, err := strconv.ParseInt(string(bytes.TrimSpace(header[arSizeOffset:arSizeOffset+arSizeLength])), 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf(".deb archive: member %q has no valid size", name)
		}
		if suffix, ok := strings.CutPrefix(name, prefix); ok {
			return decompress(ctx, &member{archive, prefix, size}, suffix)
		}
		if _, err := io.CopyN(io.Discard, archive, size+size%2); err != nil { // members are padded to even
			return nil, fmt.Errorf(".deb archive: member %q is truncated: %w", name, err)
		}
	}
}

// member reads one member of an ar archive. An archive that ends inside of it is
// an error: a tar that was not compressed has no other sign of its end missing.
type member struct {
	archive io.Reader
	name    string
	left    int64 // bytes
}

func (m *member) Read(b []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.archive.Read(b[:min(int64(len(b)), m.left)])
	m.left -= int64(n)
	if err == io.EOF && m.left > 0 {
		// Not io.ErrUnexpectedEOF, which zstd takes for a clean end where a frame
		// might begin.
		err = fmt.Errorf(".deb archive: %s is truncated", m.name)
	}
	return n, err
}

// decompress chooses by the suffix of a member's name (deb(5)).
func decompress(ctx context.Context, r io.Reader, suffix string) (io.ReadCloser, error) {
	switch suffix {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		return gzip.NewReader(r)
	case ".zst":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case ".xz":
		return Xz(ctx, r)
	}
	return nil, fmt.Errorf(".deb archive: a tar%s has an unknown compression", suffix)
}

// Xz decompresses r with the xz program where there is one: liblzma is several
// times faster than the library in Go, which takes over where there is none
// (in the very first tree).
func Xz(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	program, err := exec.LookPath("xz")
	if err != nil {
		// The library reads single bytes: of a file, each would be a system call.
		z, err := xz.NewReader(bufio.NewReaderSize(r, 64<<10))
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return io.NopCloser(z), nil
	}
	p := &process{cmd: exec.CommandContext(ctx, program, "--decompress", "--stdout")}
	p.cmd.Stdin, p.cmd.Stderr = r, &p.stderr
	if p.ReadCloser, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	return p, nil
}

// process is the output of a program that ends with its reader.
type process struct {
	io.ReadCloser
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  bool
}

// Read returns the program's failure in place of a clean end of file, so that
// a truncated stream is never taken for a whole one.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF && !p.ended {
		p.ended = true
		if werr := p.cmd.Wait(); werr != nil {
			return n, fmt.Errorf("xz: %w: %s", werr, strings.TrimSpace(p.stderr.String()))
		}
	}
	return n, err
}

// Close ends the program if its output was not read to the end.
func (p *process) Close() error {
	if p.ended { // Wait has closed the pipe
		return nil
	}
	p.ended = true
	err := p.ReadCloser.Close()
	_ = p.cmd.Wait() // it stops at the closed pipe, and that is no failure
	return err
}
