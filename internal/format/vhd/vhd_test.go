package vhd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/vhd"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const mib, gib, tib = 1 << 20, 1 << 30, 1 << 40

func newDynamic(out *format.Output, diskSize int64) (format.Writer, error) {
	return vhd.NewDynamic(out, diskSize, vhd.Options{})
}

func wholeMiB(size int64) int64 { return (size + mib - 1) / mib * mib }

func TestFixedConforms(t *testing.T) {
	testenv.Need(t, "qemu-img")
	formattest.Run(t, formattest.Suite{
		Format: vhd.Format, EmptySize: 8192,
		Judge: judge("fixed", wholeMiB),
	})
}

func TestDynamicConforms(t *testing.T) {
	testenv.Need(t, "qemu-img")
	same := func(size int64) int64 { return size }
	formattest.Run(t, formattest.Suite{
		Format: vhd.Format, New: newDynamic, Round: same, EmptySize: 64 << 10,
		Judge: judge("dynamic", same),
	})
}

// judge lets qemu-img compare the contents, then makes the same file with
// qemu-img and compares all bytes but those that name the creator.
func judge(subformat string, round func(int64) int64) func(*testing.T, string, string) {
	return func(t *testing.T, path, rawPath string) {
		info, err := os.Stat(rawPath)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 {
			return // qemu-img can't make one
		}
		if err := os.Truncate(rawPath, round(info.Size())); err != nil {
			t.Fatal(err)
		}
		// Not -s: that compares where the holes lie, too.
		if out := qemuImg(t, "compare", "-f", "vpc", "-F", "raw", path, rawPath); strings.Contains(out, "size mismatch") {
			t.Fatal(out)
		}
		theirs := filepath.Join(t.TempDir(), "qemu.vhd")
		// -S 64k: in units of our blocks, where they are zero, too.
		qemuImg(t, "convert", "-f", "raw", "-O", "vpc", "-S", "64k", "-o", "subformat="+subformat+",force_size=on", rawPath, theirs)
		sameButCreator(t, path, theirs, subformat == "dynamic")
	}
}

func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// creatorFields are the ranges of a footer that say who made the file, when,
// and as which disk, and the checksum that follows them.
var creatorFields = [][2]int{{24, 40}, {64, 84}}

// sameButCreator compares two files apart from their footers' creator fields.
func sameButCreator(t *testing.T, ours, theirs string, footerFirst bool) {
	t.Helper()
	a, b := openFile(t, ours), openFile(t, theirs)
	size := fileSize(t, a)
	if other := fileSize(t, b); size != other {
		t.Fatalf("%d bytes, qemu-img writes %d", size, other)
	}
	bufA, bufB := make([]byte, mib), make([]byte, mib)
	for offset := int64(0); offset < size; {
		// Where neither has data, both are zero.
		offset = min(nextData(t, a, offset, size), nextData(t, b, offset, size))
		offset -= offset % 512
		n := min(mib, size-offset)
		read(t, a, bufA[:n], offset)
		read(t, b, bufB[:n], offset)
		for _, field := range creatorFields {
			footers := []int64{size - 512}
			if footerFirst {
				footers = append(footers, 0)
			}
			for _, footer := range footers {
				for at := footer + int64(field[0]); at < footer+int64(field[1]); at++ {
					if at >= offset && at < offset+n {
						bufA[at-offset], bufB[at-offset] = 0, 0
					}
				}
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			t.Fatalf("qemu-img writes other bytes within %d from byte %d on", n, offset)
		}
		offset += n
	}
}

func nextData(t *testing.T, f *os.File, offset, size int64) int64 {
	t.Helper()
	const seekData = 3 // lseek(2), SEEK_DATA
	at, err := f.Seek(offset, seekData)
	if err != nil {
		return size
	}
	return at
}

func read(t *testing.T, f *os.File, p []byte, offset int64) {
	t.Helper()
	if _, err := f.ReadAt(p, offset); err != nil && err != io.EOF {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func fileSize(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestReadsWhatQEMUWrites(t *testing.T) {
	testenv.Need(t, "qemu-img")
	d := formattest.NewDisk(70 * mib)
	d.Put(0, []byte("first sector"))
	d.Put(33*mib+512*7, []byte("one sector within a block"))
	d.Put(70*mib-1, []byte{1})
	for _, options := range []string{
		"subformat=fixed,force_size=on", "subformat=dynamic,force_size=on", "subformat=fixed", "subformat=dynamic",
	} {
		t.Run(options, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qemu.vhd")
			qemuImg(t, "convert", "-f", "raw", "-O", "vpc", "-o", options, d.File(t), path)
			f := openFile(t, path)
			src, err := vhd.Open(f, fileSize(t, f))
			if err != nil {
				t.Fatal(err)
			}
			formattest.Equal(t, src, d)
		})
	}
}

func TestOptionsLandInTheFooter(t *testing.T) {
	id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	options := vhd.Options{ID: id, Created: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)}
	for name, create := range map[string]func(*format.Output, int64, vhd.Options) (format.Writer, error){
		"fixed": vhd.NewFixed, "dynamic": vhd.NewDynamic,
	} {
		image := write(t, mib, func(out *format.Output, size int64) (format.Writer, error) { return create(out, size, options) })
		footer := image[len(image)-512:]
		if stamp := binary.BigEndian.Uint32(footer[24:]); stamp != 3600 {
			t.Errorf("%s: time stamp %d, want an hour", name, stamp)
		}
		if !bytes.Equal(footer[68:84], id[:]) {
			t.Errorf("%s: unique id %x", name, footer[68:84])
		}
	}
	options.Created = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := vhd.NewFixed(format.NewOutput(nil, 0), mib, options); err == nil {
		t.Error("a time before the format's epoch was taken")
	}
}

func TestSizesBeyondTheFormatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		create func(*format.Output, int64) (format.Writer, error)
		size   int64
		ok     bool
	}{
		{"fixed, 2 TiB", vhd.New, 2 * tib, true},
		{"fixed, a sector more", vhd.New, 2*tib + 512, false},
		{"dynamic, 2040 GiB", newDynamic, 2040 * gib, true},
		{"dynamic, a sector more", newDynamic, 2040*gib + 512, false},
		{"dynamic, half a sector", newDynamic, 256, false},
		{"fixed, negative", vhd.New, -512, false},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "large.vhd"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.create(format.NewOutput(f, 0), c.size); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes the file of a disk of size bytes that has data in its first and
// last sector, and in its fourth MiB.
func write(t testing.TB, size int64, create func(*format.Output, int64) (format.Writer, error)) []byte {
	t.Helper()
	d := formattest.NewDisk(size)
	d.Put(0, []byte("begin"))
	d.Put(3*mib, []byte("middle"))
	d.Put(size-3, []byte("end"))
	path := formattest.Suite{Format: vhd.Format, New: create}.Convert(t, d, 1)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// resum mends the checksums after a test's change.
func resum(image []byte) {
	for _, at := range []struct{ offset, length, field int }{
		{0, 512, 64}, {512, 1024, 36}, {len(image) - 512, 512, 64},
	} {
		structure := image[at.offset : at.offset+at.length]
		binary.BigEndian.PutUint32(structure[at.field:], 0)
		var sum uint32
		for _, b := range structure {
			sum += uint32(b)
		}
		binary.BigEndian.PutUint32(structure[at.field:], ^sum)
	}
}

func TestHostileImagesAreErrors(t *testing.T) {
	be := binary.BigEndian
	const header, table = 512, 1536
	good := write(t, 9*mib, newDynamic)
	both := func(image []byte, change func(footer []byte)) {
		change(image[:512])
		change(image[len(image)-512:])
	}
	for name, damage := range map[string]func(image []byte) []byte{
		"size of 2^63":          func(b []byte) []byte { both(b, func(f []byte) { be.PutUint64(f[48:], 1<<63) }); return b },
		"size of 2^64-512":      func(b []byte) []byte { both(b, func(f []byte) { be.PutUint64(f[48:], 1<<64-512) }); return b },
		"size of half a sector": func(b []byte) []byte { both(b, func(f []byte) { be.PutUint64(f[48:], 256) }); return b },
		"header at 2^64-1":      func(b []byte) []byte { both(b, func(f []byte) { be.PutUint64(f[16:], 1<<64-1) }); return b },
		"header in the footer":  func(b []byte) []byte { both(b, func(f []byte) { be.PutUint64(f[16:], uint64(len(b)-512)) }); return b },
		"unknown type":          func(b []byte) []byte { both(b, func(f []byte) { be.PutUint32(f[60:], 77) }); return b },
		"fixed, larger than it is": func(b []byte) []byte {
			both(b, func(f []byte) { be.PutUint32(f[60:], 2); be.PutUint64(f[48:], gib) })
			return b
		},
		"table at 2^63":         func(b []byte) []byte { be.PutUint64(b[header+16:], 1<<63); return b },
		"table over the end":    func(b []byte) []byte { be.PutUint64(b[header+16:], uint64(len(b)-8)); return b },
		"table too short":       func(b []byte) []byte { be.PutUint32(b[header+28:], 4); return b },
		"blocks of 0":           func(b []byte) []byte { be.PutUint32(b[header+32:], 0); return b },
		"blocks of 3 sectors":   func(b []byte) []byte { be.PutUint32(b[header+32:], 1536); return b },
		"block behind the end":  func(b []byte) []byte { be.PutUint32(b[table:], 1<<32-2); return b },
		"block over the footer": func(b []byte) []byte { be.PutUint32(b[table:], uint32(len(b)/512-4096)); return b },
		"block over the table":  func(b []byte) []byte { be.PutUint32(b[table:], 3); return b },
		"block over the header": func(b []byte) []byte { be.PutUint32(b[table:], 0); return b },
		"a block twice":         func(b []byte) []byte { copy(b[table+4:table+8], b[table:table+4]); return b },
		"overlapping blocks":    func(b []byte) []byte { be.PutUint32(b[table+4:], be.Uint32(b[table:])+8); return b },
		"cut within a block":    func(b []byte) []byte { return append(b[:mib:mib], b[len(b)-512:]...) },
		"cut within the header": func(b []byte) []byte { return append(b[:700:700], b[len(b)-512:]...) },
	} {
		t.Run(name, func(t *testing.T) {
			image := damage(bytes.Clone(good))
			if len(image) > 2048 {
				resum(image)
			}
			if _, err := vhd.Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, format.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("checksum", func(t *testing.T) {
		image := bytes.Clone(good)
		image[header+100] ^= 1
		if _, err := vhd.Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("differencing", func(t *testing.T) {
		image := bytes.Clone(good)
		both(image, func(f []byte) { be.PutUint32(f[60:], 4) })
		resum(image)
		if _, err := vhd.Open(bytes.NewReader(image), int64(len(image))); err == nil || errors.Is(err, format.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

// A disk of 2 TiB in blocks of a sector would need a table of 16 GiB.
func TestTableOfTinyBlocksIsRefusedBeforeItIsRead(t *testing.T) {
	image := write(t, 9*mib, newDynamic)
	for _, footer := range [][]byte{image[:512], image[len(image)-512:]} {
		binary.BigEndian.PutUint64(footer[48:], 2*tib)
	}
	binary.BigEndian.PutUint32(image[512+32:], 512)
	binary.BigEndian.PutUint32(image[512+28:], 1<<32-1)
	resum(image)
	allocated := formattest.Allocated(func() {
		if _, err := vhd.Open(bytes.NewReader(image), int64(len(image))); err == nil {
			t.Error("it was taken")
		}
	})
	if allocated > mib {
		t.Errorf("%d bytes allocated", allocated)
	}
}

func TestDamagedFooterIsReplacedByItsCopy(t *testing.T) {
	image := write(t, 9*mib, newDynamic)
	clear(image[len(image)-512:])
	src, err := vhd.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := src.ReadAt(got, 9*mib-3); err != nil || string(got) != "end" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestSectorsOutsideTheBitmapAreZero(t *testing.T) {
	image := write(t, 9*mib, newDynamic)
	block := int(binary.BigEndian.Uint32(image[1536+4:])) * 512
	clear(image[block : block+512])
	image[block+(mib/512)/8] = 0x40 // of the disk's fourth MiB, the second sector
	copy(image[block+512+mib+512:], "seen")
	src, err := vhd.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1024)
	if _, err := src.ReadAt(got, 3*mib+3); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1024)
	copy(want[512-3:], "seen")
	if !bytes.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

// smallDynamic is a dynamic disk of four blocks of 4 KiB, two of them stored:
// small enough for a fuzzer to change what matters.
func smallDynamic(t testing.TB) []byte {
	image := write(t, 9*mib, newDynamic)
	footer, head := bytes.Clone(image[:512]), bytes.Clone(image[:2048])
	binary.BigEndian.PutUint64(head[48:], 4*4096)
	binary.BigEndian.PutUint64(footer[48:], 4*4096)
	binary.BigEndian.PutUint32(head[512+28:], 4)
	binary.BigEndian.PutUint32(head[512+32:], 4096)
	binary.BigEndian.PutUint32(head[1536:], 4)
	binary.BigEndian.PutUint32(head[1536+4:], 1<<32-1)
	binary.BigEndian.PutUint32(head[1536+8:], 13)
	binary.BigEndian.PutUint32(head[1536+12:], 1<<32-1)
	stored := append(bytes.Repeat([]byte{0xff}, 512), bytes.Repeat([]byte("data"), 1024)...)
	image = bytes.Join([][]byte{head, stored, stored, footer}, nil)
	resum(image)
	return image
}

func FuzzOpen(f *testing.F) {
	dynamic := smallDynamic(f)
	if _, err := vhd.Open(bytes.NewReader(dynamic), int64(len(dynamic))); err != nil {
		f.Fatal(err)
	}
	f.Add(dynamic)
	f.Add(dynamic[:len(dynamic)-512])
	fixed := write(f, 9*mib, vhd.New)
	fixed = fixed[len(fixed)-512-4096:]
	binary.BigEndian.PutUint64(fixed[4096+48:], 4096)
	f.Add(fixed)
	f.Fuzz(func(_ *testing.T, image []byte) {
		formattest.Walk(vhd.Format, image)
		if len(image) >= 2048 { // past the checksums
			image = bytes.Clone(image)
			resum(image)
			formattest.Walk(vhd.Format, image)
		}
	})
}
