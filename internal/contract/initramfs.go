package contract

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// initramfsModules has the names of the modules in the boot menu's initramfs.
func (n *node) initramfsModules() (map[string]bool, error) {
	entries, err := n.entries()
	if err != nil {
		return nil, err
	}
	name := n.bootFile(entries[0].initrd)
	if name == "" {
		return nil, fmt.Errorf("initramfs %s: %w", entries[0].initrd, fs.ErrNotExist)
	}
	content, err := n.tree.Content(name)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	out := map[string]bool{}
	err = readInitramfs(content, func(name string) {
		if strings.Contains(name, ".ko") {
			out[moduleOf(name)] = true
		}
	})
	if err != nil {
		return nil, fmt.Errorf("initramfs %s: %w", name, err)
	}
	return out, nil
}

const (
	// maxInitramfs bounds what a hostile initramfs may unpack to.
	maxInitramfs = 2 << 30
	// maxWindow is the memory for unpacking zstd; the kernel itself takes 128 MiB
	// at most.
	maxWindow  = 128 << 20
	cpioHeader = 110
	cpioEnd    = "TRAILER!!!"
	maxName    = 4096
)

// readInitramfs calls visit with the names in an initramfs: cpio archives, one
// after the other, of which the kernel takes any to be compressed
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func readInitramfs(r io.Reader, visit func(name string)) error {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		if err := skipZeros(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		head, err := in.Peek(6)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(head, []byte("07070")) {
			if err := readCPIO(in, visit); err != nil {
				return err
			}
			continue
		}
		plain, err := decompress(in, head)
		if err != nil {
			return err
		}
		defer plain.Close()
		inner := bufio.NewReaderSize(io.LimitReader(plain, maxInitramfs), 1<<16)
		for {
			if err := skipZeros(inner); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := readCPIO(inner, visit); err != nil {
				return err
			}
		}
	}
}

// decompress unpacks the rest by its magic number.
func decompress(r io.Reader, head []byte) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x28, 0xB5, 0x2F, 0xFD}):
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte{0x1F, 0x8B}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(r)), nil
	case bytes.HasPrefix(head, []byte("\xFD7zXZ\x00")):
		d, err := xz.NewReader(r)
		return io.NopCloser(d), err
	}
	return nil, fmt.Errorf("it is compressed in a way that this program does not know (%x)", head)
}

func skipZeros(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
}

// readCPIO reads one archive of the "new ASCII" format up to its trailer.
func readCPIO(r *bufio.Reader, visit func(name string)) error {
	header := make([]byte, cpioHeader)
	for {
		if _, err := io.ReadFull(r, header); err != nil {
			return fmt.Errorf("cpio: %w", err)
		}
		if string(header[:6]) != "070701" && string(header[:6]) != "070702" {
			return errors.New("cpio: not an entry of the new ASCII format")
		}
		size, err1 := strconv.ParseUint(string(header[54:62]), 16, 32)
		length, err2 := strconv.ParseUint(string(header[94:102]), 16, 32)
		if err1 != nil || err2 != nil || length == 0 || length > maxName {
			return errors.New("cpio: a damaged header")
		}
		name := make([]byte, pad4(cpioHeader+length)-cpioHeader)
		if _, err := io.ReadFull(r, name); err != nil {
			return fmt.Errorf("cpio: %w", err)
		}
		text, _, _ := strings.Cut(string(name[:length]), "\x00")
		if text == cpioEnd {
			return nil
		}
		visit(text)
		if _, err := io.CopyN(io.Discard, r, int64(pad4(size))); err != nil {
			return fmt.Errorf("cpio: %s: %w", printable(text), err)
		}
	}
}

func pad4(n uint64) uint64 { return (n + 3) &^ 3 }
