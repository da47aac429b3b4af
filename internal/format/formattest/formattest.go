// Package formattest is what every format's package has to pass.
package formattest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
)

// Suite is one format, with one set of options, under test.
type Suite struct {
	Format format.Format
	// New replaces Format.New where options are under test.
	New func(out *format.Output, diskSize int64) (format.Writer, error)
	// Round says how large the disk in the file is, in bytes, for a disk of
	// the given size; nil if Format.SizeUnit says it.
	Round func(diskSize int64) int64
	// Judge lets somebody else's program check the file against the raw disk
	// (a sparse file of the disk's own size); nil without one.
	Judge func(t *testing.T, path, rawPath string)
	// EmptySize is how many bytes of storage the file of an empty disk of
	// 20 GiB may take.
	EmptySize int64
}

const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30

// disks are the contents that every format has to carry.
var disks = []struct {
	name string
	size int64
	data func(r *rand.Rand, d *Disk)
}{
	{"empty", 3 * mib, func(*rand.Rand, *Disk) {}},
	{"of no bytes", 0, func(*rand.Rand, *Disk) {}},
	{"one sector", 512, func(r *rand.Rand, d *Disk) { d.Random(r, 0, 512) }},
	{"last byte set", 5 * mib, func(_ *rand.Rand, d *Disk) { d.Put(5*mib-1, []byte{1}) }},
	{"ends within a block", 2*mib + 512, func(r *rand.Rand, d *Disk) { d.Random(r, 2*mib, 512) }},
	{"random and full", 4 * mib, func(r *rand.Rand, d *Disk) { d.Random(r, 0, 4*mib) }},
	{"text and full", 4 * mib, func(_ *rand.Rand, d *Disk) {
		d.Put(0, bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\n"), 4*mib/44))
	}},
	{"every other block", 8 * mib, func(r *rand.Rand, d *Disk) {
		for o := int64(0); o < 8*mib; o += 128 * kib {
			d.Random(r, o+100, 4000)
		}
	}},
	{"beyond 4 GiB", 9 * gib, func(r *rand.Rand, d *Disk) {
		for _, o := range []int64{0, 64 * kib, 512*mib - 10, gib, 4*gib - 512, 4 * gib, 9*gib - 700} {
			d.Random(r, o, 700)
		}
	}},
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	if s.New == nil {
		s.New = s.Format.New
	}
	if s.Round == nil {
		unit := s.Format.SizeUnit
		s.Round = func(size int64) int64 { return (size + unit - 1) / unit * unit }
	}
	for i, c := range disks {
		t.Run("carries a disk "+c.name, func(t *testing.T) {
			d := NewDisk(c.size)
			c.data(rand.New(rand.NewPCG(uint64(i), 7)), d)
			s.carries(t, d)
		})
	}
	t.Run("the file depends on the content alone", s.dependsOnContentAlone)
	t.Run("an empty disk of 20 GiB is small and quick", s.emptyIsSmall)
	t.Run("damage is an error and no panic", s.survivesDamage)
	t.Run("probe knows its own files alone", s.probes)
}

// Convert makes the suite's file of src and returns its path.
func (s Suite) Convert(t testing.TB, src format.Source, workers int) string {
	t.Helper()
	if s.New == nil {
		s.New = s.Format.New
	}
	path := filepath.Join(t.TempDir(), "disk"+s.Format.Suffix)
	target := format.Target{Path: path, New: s.New}
	if _, err := (format.Converter{Workers: workers}).Convert(t.Context(), src, []format.Target{target}); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens the file at path with the format's reader.
func (s Suite) open(t *testing.T, path string) format.Source {
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
	src, err := s.Format.Open(f, info.Size())
	if err != nil {
		t.Fatalf("open what was written: %v", err)
	}
	return src
}

func (s Suite) carries(t *testing.T, d *Disk) {
	path := s.Convert(t, d, 2)
	back := s.open(t, path)
	if want := s.Round(d.Size()); back.Size() != want {
		t.Fatalf("a disk of %d bytes came back with %d, want %d", d.Size(), back.Size(), want)
	}
	Equal(t, back, d)
	if s.Judge != nil && d.Size() > 0 { // others refuse a disk of no bytes
		s.Judge(t, path, d.File(t))
	}
}

func (s Suite) dependsOnContentAlone(t *testing.T) {
	d := NewDisk(16 * mib)
	r := rand.New(rand.NewPCG(1, 2))
	d.Put(3*mib, bytes.Repeat([]byte("text"), mib))
	d.Random(r, 9*mib+5, 2*mib)
	one := s.Convert(t, d, 1)
	for name, path := range map[string]string{
		"eight workers":                s.Convert(t, d, 8),
		"a source that knows no holes": s.Convert(t, allData{d}, 3),
		"another day":                  s.Convert(t, d, 1),
	} {
		if !sameFiles(t, one, path) {
			t.Errorf("%s: another file", name)
		}
	}
	d.Put(15*mib, []byte("!"))
	if sameFiles(t, one, s.Convert(t, d, 1)) {
		t.Error("another disk gave the same file")
	}
}

func (s Suite) emptyIsSmall(t *testing.T) {
	begin := time.Now()
	path := s.Convert(t, NewDisk(20*gib), 2)
	took := time.Since(begin)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stored := info.Sys().(*syscall.Stat_t).Blocks * 512
	t.Logf("%d bytes, %d stored, %v", info.Size(), stored, took)
	if stored > s.EmptySize {
		t.Errorf("takes %d bytes of storage, want at most %d", stored, s.EmptySize)
	}
	if took > 5*time.Second { // 0.2 s is the aim; a loaded test machine gets more
		t.Errorf("took %v", took)
	}
}

// survivesDamage cuts and flips bytes of a good file.
func (s Suite) survivesDamage(t *testing.T) {
	d := NewDisk(3 * mib)
	d.Random(rand.New(rand.NewPCG(3, 4)), 0, 100*kib)
	d.Put(2*mib, bytes.Repeat([]byte("text"), 30*kib))
	good, err := os.ReadFile(s.Convert(t, d, 1))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		bad := bytes.Clone(good)
		switch r.IntN(3) {
		case 0:
			bad = bad[:r.IntN(len(bad))]
		case 1: // most of what is interesting stands at either end
			near := min(4096, len(bad))
			for range 1 + r.IntN(4) {
				bad[r.IntN(near)] = byte(r.Uint32())
				bad[len(bad)-1-r.IntN(near)] = byte(r.Uint32())
			}
		case 2:
			for range 1 + r.IntN(64) {
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			}
		}
		Walk(s.Format, bad)
	}
}

func (s Suite) probes(t *testing.T) {
	own, err := os.ReadFile(s.Convert(t, NewDisk(mib), 1))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Format.Probe(bytes.NewReader(own), int64(len(own))); !ok || err != nil {
		t.Errorf("its own file: %v, %v", ok, err)
	}
	if s.Format.Name == "raw" {
		return // anything is raw
	}
	noise := NewDisk(mib)
	noise.Random(rand.New(rand.NewPCG(8, 9)), 0, mib)
	for name, content := range map[string][]byte{"zeros": make([]byte, mib), "noise": noise.bytes(), "nothing": nil, "text": []byte("hello")} {
		if ok, err := s.Format.Probe(bytes.NewReader(content), int64(len(content))); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

// Walk opens image with f and reads some of it, as far as it can; it is what
// fuzz targets call. It panics when the reader breaks Source's rules.
func Walk(f format.Format, image []byte) {
	r := bytes.NewReader(image)
	if ok, err := f.Probe(r, int64(len(image))); err != nil || !ok {
		_ = ok // Open must survive what Probe refuses
	}
	src, err := f.Open(r, int64(len(image)))
	if err != nil {
		return
	}
	size := src.Size()
	if size < 0 || size > format.MaxSize || size%format.SectorSize != 0 {
		panic("a disk of an impossible size")
	}
	buf := make([]byte, 64*kib)
	offset := int64(0)
	for range 64 {
		extent, err := src.NextData(offset)
		if err != nil {
			break
		}
		if extent.Offset < offset || extent.Length <= 0 || extent.End() > size {
			panic("an impossible extent")
		}
		n, err := src.ReadAt(buf[:min(extent.Length, int64(len(buf)))], extent.Offset)
		if n < 0 || n > len(buf) || err == nil && int64(n) < min(extent.Length, int64(len(buf))) {
			panic("an impossible read")
		}
		offset = extent.End()
	}
	if n, err := src.ReadAt(buf, size); n != 0 || size > 0 && err == nil {
		panic("read behind the end")
	}
}

// sameFiles reports whether two files hold the same bytes.
func sameFiles(t *testing.T, a, b string) bool {
	t.Helper()
	fa, err := os.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fa.Close() }()
	fb, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fb.Close() }()
	bufA, bufB := make([]byte, mib), make([]byte, mib)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) || (errA == nil) != (errB == nil) {
			return false
		}
		if errA != nil {
			return true
		}
	}
}

// Allocated runs do and returns how many bytes it asked the Go heap for in all,
// an upper bound of what it ever held.
func Allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
