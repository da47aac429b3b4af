package gce_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/gce"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30

func wholeGiB(size int64) int64 { return (size + gib - 1) / gib * gib }

func TestConforms(t *testing.T) {
	testenv.Need(t, "tar", "gzip", "qemu-img")
	formattest.Run(t, formattest.Suite{Format: gce.Format, EmptySize: 4096, Judge: judge})
}

// judge lets gzip test the file, GNU tar list and extract it, and qemu-img
// compare the result with the raw disk (as cmp would, but knowing of holes).
func judge(t *testing.T, path, rawPath string) {
	info, err := os.Stat(rawPath)
	if err != nil {
		t.Fatal(err)
	}
	size := wholeGiB(info.Size())
	run(t, "gzip", "-t", path)
	if list := strings.Fields(run(t, "tar", "-tvSf", path)); len(list) != 6 || list[2] != fmt.Sprint(size) || list[5] != "disk.raw" {
		t.Errorf("tar -tvS says %q of %d bytes", list, size)
	}
	dir := t.TempDir()
	run(t, "tar", "-C", dir, "-xSf", path)
	if err := os.Truncate(rawPath, size); err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", filepath.Join(dir, "disk.raw"), rawPath)
	}
}

// run runs a program that has to succeed and to say nothing on stderr.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
	}
	return string(out)
}

func convert(t testing.TB, d *formattest.Disk) string {
	t.Helper()
	return formattest.Suite{Format: gce.Format}.Convert(t, d, 2)
}

// Small holes are filled, large ones kept, and everybody reads the extension
// blocks.
func TestSmallHolesMakeRoomForLargeOnes(t *testing.T) {
	testenv.Need(t, "tar", "gzip", "qemu-img")
	d := formattest.NewDisk(4 * gib)
	for i := range int64(200) {
		d.Put(i*192*kib, []byte("piece"))
	}
	d.Put(2*gib, []byte("behind a large hole"))
	for i := range int64(100) {
		d.Put(3*gib+i*8*mib, []byte("piece"))
	}
	path := convert(t, d)
	src := open(t, path)
	formattest.Equal(t, src, d)
	var extents int
	var stored int64
	for offset := int64(0); ; extents++ {
		e, err := src.NextData(offset)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		offset, stored = e.End(), stored+e.Length
	}
	if extents < 50 || extents > 1024 || stored > 64*mib {
		t.Errorf("%d extents with %d bytes", extents, stored)
	}
	judge(t, path, d.File(t))
}

// Go's own readers are one more judge, with one more inflate.
func TestStandardLibraryReadsIt(t *testing.T) {
	d := formattest.NewDisk(gib)
	d.Random(rand.New(rand.NewPCG(1, 1)), 3*mib, 3*mib)
	d.Put(500*mib, bytes.Repeat([]byte("text"), mib))
	f, err := os.Open(convert(t, d))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	inflated, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	inflated.Multistream(false)
	archive := tar.NewReader(inflated)
	header, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "disk.raw" || header.Typeflag != tar.TypeGNUSparse || header.Size != gib || header.Format != tar.FormatGNU {
		t.Errorf("header %+v", header)
	}
	got, want := make([]byte, mib), make([]byte, mib)
	for offset := int64(0); offset < gib; offset += mib {
		if _, err := io.ReadFull(archive, got); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadAt(want, offset); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("other content behind byte %d", offset)
		}
	}
	if _, err := archive.Next(); err != io.EOF {
		t.Errorf("a second member: %v", err)
	}
	if rest, err := io.Copy(io.Discard, inflated); err != nil || rest > 10240 {
		t.Errorf("%d bytes follow the archive, %v", rest, err)
	}
}

func open(t testing.TB, path string) format.Source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	src, err := gce.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestReadsWhatGNUTarWrites(t *testing.T) {
	testenv.Need(t, "tar", "gzip")
	d := formattest.NewDisk(9 * gib)
	for i := range int64(60) {
		d.Put(i*101*mib, []byte("piece"))
	}
	d.Put(9*gib-1, []byte{1})
	sparse := d.File(t)
	small := formattest.NewDisk(2 * mib)
	small.Random(rand.New(rand.NewPCG(2, 2)), 100*kib, mib)
	plain := small.File(t)
	for name, c := range map[string]struct {
		disk *formattest.Disk
		path string
		args []string
	}{
		"sparse":        {d, sparse, []string{"--format=oldgnu", "-S"}},
		"plain":         {small, plain, []string{"--format=oldgnu"}},
		"ustar":         {small, plain, []string{"--format=ustar"}},
		"large records": {small, plain, []string{"--format=gnu", "-b", "2048"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gnu.tar.gz")
			run(t, "tar", append(c.args, "-C", filepath.Dir(c.path), "-czf", path, "disk.raw")...)
			formattest.Equal(t, open(t, path), c.disk)
		})
	}
}

// Readers that go back, and several at a time, get the same bytes.
func TestReadsInAnyOrder(t *testing.T) {
	d := formattest.NewDisk(gib)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range int64(5) {
		d.Random(r, i*200*mib+5, 12*mib) // 60 MiB: more than the window
	}
	src := open(t, convert(t, d))
	errs := make(chan error)
	for reader := range uint64(4) {
		go func() {
			r := rand.New(rand.NewPCG(4, reader))
			got, want := make([]byte, 300*kib), make([]byte, 300*kib)
			for range 12 {
				offset := r.Int64N(5)*200*mib + r.Int64N(12*mib)
				_, errGot := src.ReadAt(got, offset)
				_, errWant := d.ReadAt(want, offset)
				if err := errors.Join(errGot, errWant); err != nil || !bytes.Equal(got, want) {
					errs <- fmt.Errorf("other content at byte %d: %w", offset, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// pack compresses an archive.
func pack(t testing.TB, archive []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// archive is what the writer packs for a disk of 1 GiB with six pieces of data.
func archive(t testing.TB) []byte {
	t.Helper()
	d := formattest.NewDisk(gib)
	for i := range int64(6) {
		d.Put(i*128*mib, []byte("piece"))
	}
	f, err := os.Open(convert(t, d))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// resum mends the header's checksum after a test's change.
func resum(archive []byte) {
	copy(archive[148:156], "        ")
	var sum int
	for _, b := range archive[:512] {
		sum += int(b)
	}
	copy(archive[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// binaryNumber is a tar number of 12 bytes.
func binaryNumber(n uint64) []byte {
	return append([]byte{0x80, 0, 0, 0}, binary.BigEndian.AppendUint64(nil, n)...)
}

func TestHostileImagesAreErrors(t *testing.T) {
	const size, entries, realSize, extension = 124, 386, 483, 512
	good := archive(t)
	for name, damage := range map[string]func(b []byte) []byte{
		"size of 2^63":           func(b []byte) []byte { copy(b[realSize:], binaryNumber(1<<63)); return b },
		"size of 2^64-512":       func(b []byte) []byte { copy(b[realSize:], binaryNumber(1<<64-512)); return b },
		"negative size":          func(b []byte) []byte { copy(b[realSize:], bytes.Repeat([]byte{0xff}, 12)); return b },
		"size beyond 64 bits":    func(b []byte) []byte { copy(b[realSize:], binaryNumber(gib)); b[realSize+2] = 1; return b },
		"size of half a sector":  func(b []byte) []byte { copy(b[realSize:], "10000000400"); return b },
		"size that is no number": func(b []byte) []byte { copy(b[realSize:], "9"); return b },
		"size below the data":    func(b []byte) []byte { copy(b[realSize:], "00000001000"); return b },
		"stored size of 2^62":    func(b []byte) []byte { copy(b[size:], binaryNumber(1<<62)); return b },
		"stored size too small":  func(b []byte) []byte { copy(b[size:], "00000001000"); return b },
		"data at 2^63-1":         func(b []byte) []byte { copy(b[entries:], binaryNumber(1<<63-1)); return b },
		"data of 2^46 bytes at 2^46": func(b []byte) []byte {
			copy(b[entries:], binaryNumber(1<<46))
			copy(b[entries+12:], binaryNumber(1<<46))
			return b
		},
		"data twice":               func(b []byte) []byte { copy(b[entries+24:], b[entries:entries+24]); return b },
		"data in descending order": func(b []byte) []byte { copy(b[entries:], b[extension:extension+24]); return b },
		"overlapping data":         func(b []byte) []byte { copy(b[entries+24:], "00000000001"); return b },
		"cut within the header":    func(b []byte) []byte { return b[:100] },
		"cut before the extension": func(b []byte) []byte { return b[:512] },
		"nothing":                  func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			content := damage(bytes.Clone(good))
			if len(content) >= 512 {
				resum(content)
			}
			image := pack(t, content)
			if _, err := gce.Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, format.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, change := range map[string]func(b []byte){
		"another name": func(b []byte) { copy(b, "disk.vmdk") },
		"a link":       func(b []byte) { b[156] = '2' },
		"pax":          func(b []byte) { b[156] = 'x' },
	} {
		t.Run(name, func(t *testing.T) {
			content := bytes.Clone(good)
			change(content)
			resum(content)
			image := pack(t, content)
			if _, err := gce.Open(bytes.NewReader(image), int64(len(image))); err == nil || errors.Is(err, format.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Damage of the data comes out when it is read, at the latest at its end.
func TestDamagedDataIsAnErrorWhenItIsRead(t *testing.T) {
	content := archive(t)
	good := pack(t, content)
	wrongSum := bytes.Clone(good)
	wrongSum[len(wrongSum)-8] ^= 1
	for name, image := range map[string][]byte{
		"cut archive":    pack(t, content[:100*kib]),
		"cut file":       good[:len(good)/2],
		"wrong checksum": wrongSum,
	} {
		t.Run(name, func(t *testing.T) {
			src, err := gce.Open(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time as well
				if _, err := src.ReadAt(make([]byte, 64*kib), 5*128*mib); !errors.Is(err, format.ErrCorrupt) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// A map of extensions without end costs a hostile file little.
func TestEndlessMapIsRefused(t *testing.T) {
	content := archive(t)
	block := content[512:1024]
	for i := range 21 {
		copy(block[i*24:], "10000000000\x0000000000000\x00") // nothing, at the disk's end
	}
	block[504] = 1
	image := pack(t, append(content[:512:512], bytes.Repeat(block, 60000)...))
	allocated := formattest.Allocated(func() {
		if _, err := gce.Open(bytes.NewReader(image), int64(len(image))); err == nil {
			t.Error("it was taken")
		}
	})
	if allocated > 256*mib {
		t.Errorf("%d bytes allocated", allocated)
	}
}

// FuzzOpen changes the file as it is.
func FuzzOpen(f *testing.F) {
	content := archive(f)
	f.Add(pack(f, content))
	f.Add(pack(f, content[:512]))
	f.Fuzz(func(_ *testing.T, image []byte) { formattest.Walk(gce.Format, image) })
}

// FuzzArchive changes what is inside of it, past the checksums.
func FuzzArchive(f *testing.F) {
	f.Add(archive(f)[:2048])
	f.Fuzz(func(t *testing.T, content []byte) {
		content = bytes.Clone(content)
		if len(content) >= 512 {
			resum(content)
		}
		formattest.Walk(gce.Format, pack(t, content))
	})
}
