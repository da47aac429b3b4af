package mapped

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/diskmap"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/raw"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// random returns n bytes none of which is zero.
func random(n int, seed byte) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	for i := range data {
		data[i] |= 1
	}
	return data
}

// sample leaves a disk of 8 MiB in a directory, and says what is on it: metadata
// before, between and behind files, a file that ends within its last block, one in two
// ranges, and one with a name that is no UTF-8.
func sample(t testing.TB) (dir string, trees map[string]string, want []byte) {
	t.Helper()
	dir = t.TempDir()
	trees = map[string]string{"root": t.TempDir(), "var": t.TempDir()}
	m := diskmap.Map{Size: 8 * mib}
	want = make([]byte, m.Size)
	metadata := make([]byte, m.Size)
	for i, at := range []int{0, 1*mib + 8*kib, 8*mib - 512} {
		data := random(512, byte(i))
		copy(metadata[at:], data)
		copy(want[at:], data)
	}
	for i, f := range []struct {
		tree, path string
		size       int
		extents    []diskmap.Extent
	}{
		{"root", "etc/short", 5000, []diskmap.Extent{{Start: 1 * mib, Length: 8 * kib}}},
		{"root", "usr/large", 3 * mib, []diskmap.Extent{{Start: 1*mib + 12*kib, Length: 1 * mib}, {Start: 5 * mib, Length: 2 * mib, Offset: 1 * mib}}},
		{"var", "name\xff", 1, []diskmap.Extent{{Start: 4 * mib, Length: 4 * kib}}},
	} {
		content := random(f.size, byte(10+i))
		name := filepath.Join(trees[f.tree], f.path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644)); err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, diskmap.File{Tree: f.tree, Path: []byte(f.path), Size: int64(f.size)})
		for _, e := range f.extents {
			copy(want[e.Start:], content[e.Offset:min(e.Offset+e.Length, int64(f.size))])
			e.File = i
			m.Extents = append(m.Extents, e)
		}
	}
	m.Extents[2], m.Extents[3] = m.Extents[3], m.Extents[2] // ascending
	if err := errors.Join(m.Write(dir), writeSparse(filepath.Join(dir, diskmap.MetadataFile), metadata)); err != nil {
		t.Fatal(err)
	}
	return dir, trees, want
}

// writeSparse leaves holes where sectors are zero.
func writeSparse(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := 0; at < len(data); at += format.SectorSize {
		if sector := data[at : at+format.SectorSize]; !bytes.Equal(sector, make([]byte, format.SectorSize)) {
			if _, err := f.WriteAt(sector, int64(at)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(len(data)))
}

func open(t testing.TB, dir string, trees map[string]string) *Disk {
	t.Helper()
	disk, err := Open(dir, trees)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

func TestADiskIsItsMetadataAndTheFilesOfItsTrees(t *testing.T) {
	dir, trees, want := sample(t)
	disk := open(t, dir, trees)
	for _, length := range []int{len(want), 1, 512, 4096, 65536, 1*mib + 77} {
		r := rand.New(rand.NewPCG(1, uint64(length)))
		for range 200 {
			offset := r.Int64N(disk.Size())
			p := bytes.Repeat([]byte{0xaa}, length)
			n, err := disk.ReadAt(p, offset)
			rest := want[offset:]
			if short := len(rest) < length; short != errors.Is(err, io.EOF) || !short && err != nil {
				t.Fatalf("%d bytes at %d: %v", length, offset, err)
			}
			if rest = rest[:min(len(rest), length)]; n != len(rest) || !bytes.Equal(p[:n], rest) {
				t.Fatalf("%d bytes at %d differ (%d read)", length, offset, n)
			}
		}
	}
}

func TestAnImageOfADiskHoldsWhatIsOnIt(t *testing.T) {
	dir, trees, want := sample(t)
	path := filepath.Join(t.TempDir(), "disk.raw")
	summary, err := format.Converter{}.Convert(t.Context(), open(t, dir, trees), []format.Target{{Path: path, New: raw.New}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it differs (%v)", err)
	}
	if summary.Data > 4*mib {
		t.Errorf("%d bytes are said to be data", summary.Data)
	}
}

func TestNextDataLeavesNothingOut(t *testing.T) {
	dir, trees, want := sample(t)
	disk := open(t, dir, trees)
	at := int64(0)
	for {
		data, err := disk.NextData(at)
		hole := want[at:]
		if err == nil {
			hole = want[at:data.Offset]
		} else if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if len(bytes.Trim(hole, "\x00")) > 0 {
			t.Fatalf("there is data between byte %d and %d", at, at+int64(len(hole)))
		}
		if err != nil {
			return
		}
		if data.Offset < at || data.Length <= 0 || data.End() > disk.Size() {
			t.Fatalf("from %d: %+v", at, data)
		}
		at = data.End()
	}
}

func TestWhatIsWrongWithADiskIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir string, trees map[string]string)
		want  string
	}{
		"no map": {func(t *testing.T, dir string, _ map[string]string) { remove(t, filepath.Join(dir, diskmap.MapFile)) }, "the disk's map: open "},
		"no metadata": {func(t *testing.T, dir string, _ map[string]string) {
			remove(t, filepath.Join(dir, diskmap.MetadataFile))
		}, "the disk's metadata: open "},
		"no directory": {func(t *testing.T, _ string, trees map[string]string) { trees["var"] += "/none" }, "the disk's tree var: open "},
		"no tree":      {func(_ *testing.T, _ string, trees map[string]string) { delete(trees, "var") }, `files of a tree "var", which is not there`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, trees, _ := sample(t)
			test.spoil(t, dir, trees)
			if _, err := Open(dir, trees); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	t.Run("a file that is shorter", func(t *testing.T) {
		dir, trees, _ := sample(t)
		if err := os.Truncate(filepath.Join(trees["root"], "etc/short"), 100); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, dir, trees).ReadAt(make([]byte, mib), 1*mib)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "etc/short: read 5000 bytes at 0") {
			t.Error(err)
		}
	})
	t.Run("a link that leads out", func(t *testing.T) {
		dir, trees, _ := sample(t)
		name := filepath.Join(trees["root"], "etc/short")
		remove(t, name)
		if err := os.Symlink("/etc/passwd", name); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, dir, trees).ReadAt(make([]byte, mib), 1*mib); err == nil || !strings.Contains(err.Error(), "path escapes") {
			t.Error(err)
		}
	})
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"size": 1024, "files": [{"tree": "root", "path": "YQ==", "size": 3}], "extents": [{"start": 512, "length": 512}]}`,
		`{"size": 1000}`,
		`{"size": -512}`,
		`{"size": 512, "files": [{"path": "Ly4u"}]}`,
		`{"size": 512, "files": [{"path": "YQ==", "size": -1}]}`,
		`{"size": 512, "extents": [{"length": 512, "file": 1}]}`,
		`{"size": 1024, "files": [{"path": "YQ=="}], "extents": [{"start": 512, "length": 9223372036854775807}]}`,
		`{"size": 1024, "files": [{"path": "YQ=="}], "extents": [{"length": 512}, {"length": 512}]}`,
		`[]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data)
		if err != nil {
			return
		}
		end := int64(0)
		for _, e := range m.Extents {
			if e.Start < end || e.End() > m.Size || e.End() <= e.Start || e.Offset < 0 || e.File < 0 || e.File >= len(m.Files) {
				t.Fatalf("%+v is taken", e)
			}
			end = e.End()
		}
		for _, file := range m.Files {
			if name := string(file.Path); filepath.IsAbs(name) || strings.HasPrefix(filepath.Clean(name), "..") && !filepath.IsLocal(name) {
				t.Fatalf("%q is taken", name)
			}
		}
	})
}
