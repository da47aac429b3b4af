package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var compressions = map[string]qcow2.Compression{"zstd": qcow2.Zstd, "zlib": qcow2.Zlib, "plain": qcow2.Plain}

func suite(c qcow2.Compression) formattest.Suite {
	return formattest.Suite{
		Format: qcow2.Format, New: qcow2.Options{Compression: c}.New,
		Judge: formattest.QEMUChecks("qcow2"), EmptySize: 1 << 20,
	}
}

func TestQcow2Conforms(t *testing.T) {
	for name, compression := range compressions {
		t.Run(name, func(t *testing.T) { formattest.Run(t, suite(compression)) })
	}
}

// holes writes only pages that are not zero, so that a large file stays small.
type holes struct{ *os.File }

func (h holes) WriteAt(p []byte, offset int64) (int, error) {
	const page = 4096
	for at := 0; at < len(p); at += page {
		part := p[at:min(at+page, len(p))]
		if bytes.Equal(part, make([]byte, len(part))) {
			continue
		}
		if n, err := h.File.WriteAt(part, offset+int64(at)); err != nil {
			return at + n, err
		}
	}
	return len(p), nil
}

func TestMoreThanOneRefcountBlockIsCounted(t *testing.T) {
	testenv.Need(t, "qemu-img")
	const clusters = 33_500 // a refcount block counts 32768
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := format.NewOutput(holes{file}, 0)
	w, err := qcow2.Options{Compression: qcow2.Plain}.New(out, 4<<30)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, format.BlockSize)
	for i := range clusters {
		binary.LittleEndian.PutUint64(data, uint64(i)+1)
		block := format.Block{Offset: int64(i) * format.BlockSize, Data: data}
		if i%3 == 0 { // packed ones between them leave their cluster open
			block.Encoded = data[:1000]
		}
		if err := w.WriteBlock(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(format.Summary{}), out.Flush()); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), "qemu-img", "check", "-f", "qcow2", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestReadsWhatQEMUWrote(t *testing.T) {
	formattest.ReadsStored(t, qcow2.Format, "testdata/*.qcow2")
}

// hostile makes an image of a disk of size bytes whose L1 table names one L2
// table over and over, which has entry everywhere.
func hostile(size uint64, entry uint64, zstd bool) []byte {
	const cluster = 64 << 10
	l1 := (size + cluster*cluster/8 - 1) / (cluster * cluster / 8)
	l1Clusters := (l1*8 + cluster - 1) / cluster
	image := make([]byte, (3+l1Clusters)*cluster)
	be := binary.BigEndian
	copy(image, "QFI\xfb")
	be.PutUint32(image[4:], 3)
	be.PutUint32(image[20:], 16)
	be.PutUint64(image[24:], size)
	be.PutUint32(image[36:], uint32(l1))
	be.PutUint64(image[40:], 3*cluster)
	be.PutUint32(image[96:], 4)
	be.PutUint32(image[100:], 112)
	if zstd {
		be.PutUint64(image[72:], 1<<3)
		image[104] = 1
	}
	for i := range l1 {
		be.PutUint64(image[3*cluster+i*8:], 1<<63|cluster)
	}
	for i := range cluster / 8 {
		be.PutUint64(image[cluster+i*8:], entry)
	}
	return image
}

func TestHostileImagesAreRefused(t *testing.T) {
	const cluster = 64 << 10
	// A zstd frame of 64 KiB of the byte 1, as one RLE block.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0xff, 0x03, 0x00, 0x08, 0x01}
	// Holes everywhere, in 64 TiB of tables that are all one: nothing to read, but
	// 2^30 entries to look at.
	holes := hostile(64<<40, 0, false)
	bomb := hostile(64<<40, 1<<62|2*cluster, true)
	copy(bomb[2*cluster:], frame)
	set := func(at int, value uint64, size int) func([]byte) []byte {
		return func(image []byte) []byte {
			switch size {
			case 4:
				binary.BigEndian.PutUint32(image[at:], uint32(value))
			case 8:
				binary.BigEndian.PutUint64(image[at:], value)
			}
			return image
		}
	}
	good := func() []byte { return hostile(1<<20, 1<<63|2*cluster, false) }
	for name, image := range map[string][]byte{
		"one plain cluster everywhere in 64 TiB": hostile(64<<40, 1<<63|2*cluster, false),
		"one table of holes in 64 TiB":           holes,
		"one bomb everywhere in 64 TiB":          bomb,
		"a cluster behind the file's end":        hostile(1<<20, 1<<63|1<<40, false),
		"a cluster that is not aligned":          hostile(1<<20, 1<<63|2*cluster+512, false),
		"compressed data behind the end":         hostile(1<<20, 1<<62|1<<50, false),
		"compressed data that is none":           hostile(1<<20, 1<<62|2*cluster, false),
		"size of 2^63":                           set(24, 1<<63, 8)(good()),
		"size of 2^64-1":                         set(24, 1<<64-1, 8)(good()),
		"size above what its L1 table maps":      set(24, 1<<40, 8)(good()),
		"L1 table of 2^32-1 entries, too short":  set(40, 1<<62, 8)(good()),
		"L1 table is the header":                 set(40, 0, 8)(good()),
		"clusters of 2^31 bytes":                 set(20, 31, 4)(good()),
		"clusters of 2 bytes":                    set(20, 1, 4)(good()),
		"version 9":                              set(4, 9, 4)(good()),
		"a backing file":                         set(8, 512, 8)(good()),
		"encrypted":                              set(32, 2, 4)(good()),
		"marked as corrupt":                      set(72, 2, 8)(good()),
		"unknown feature":                        set(72, 1<<40, 8)(good()),
		"cut in the header":                      good()[:50],
		"cut in the L1 table":                    good()[:3*cluster],
		"nothing":                                {},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Refuses(t, qcow2.Format, image, format.ErrCorrupt, qcow2.ErrUnsupported)
		})
	}
}

func FuzzOpen(f *testing.F) {
	var seeds [][]byte // small ones: the fuzzer takes a minute to shorten a large one
	for _, image := range formattest.Stored(f, "testdata/*.qcow2") {
		seeds = append(seeds, image)
	}
	formattest.Fuzz(f, qcow2.Format, seeds...)
}
