package ext4

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// flavours are file systems that differ in everything that changes how files
// are found.
var flavours = map[string][]string{
	"ext4, as Debian makes it":     {"-t", "ext4", "-O", "metadata_csum,64bit,flex_bg"},
	"ext4 with blocks of 1 KiB":    {"-t", "ext4", "-b", "1024"},
	"ext4 with inline data":        {"-t", "ext4", "-O", "inline_data", "-I", "256"},
	"ext4 with a seed, large dirs": {"-t", "ext4", "-O", "metadata_csum,metadata_csum_seed,large_dir,ea_inode"},
	"ext4 without 64bit":           {"-t", "ext4", "-O", "^64bit,^metadata_csum,^flex_bg"},
	"ext3":                         {"-t", "ext3", "-b", "1024"},
	"ext2 with inodes of 128":      {"-t", "ext2", "-b", "1024", "-I", "128"},
	"ext4 with blocks of 64 KiB":   {"-t", "ext4", "-b", "65536"},
}

// populate fills a folder with what readers get wrong: many names, fast and
// slow links, holes, files with many extents, odd modes.
func populate(t testing.TB, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 1000 { // enough for a hash tree
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("a-rather-long-file-name-%04d", i)), []byte(fmt.Sprint(i)), 0o644))
	}
	must(os.Symlink("many", filepath.Join(dir, "fast")))
	must(os.Symlink(strings.Repeat("x/", 100), filepath.Join(dir, "slow")))
	must(os.Symlink(strings.Repeat("y", 60), filepath.Join(dir, "sixty")))
	must(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(dir, "tiny"), []byte("fits into the inode"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "medium"), bytes.Repeat([]byte("0123456789"), 13), 0o600))
	must(os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("nodesmith"), 600_000), 0o755))
	must(os.Chmod(filepath.Join(dir, "tiny"), 0o755|fs.ModeSetuid))
	holes, err := os.Create(filepath.Join(dir, "holes"))
	must(err)
	for i := range int64(200) { // an extent for each: the tree gets inner nodes
		_, err := holes.WriteAt([]byte(fmt.Sprint("piece ", i)), i*128<<10)
		must(err)
	}
	must(holes.Close())
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
}

// makeFS makes a file system from a folder.
func makeFS(t testing.TB, dir string, options ...string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fs")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	const size = 1 << 30
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{"-q", "-F", "-d", dir}, options...), name)
	if out, err := exec.CommandContext(t.Context(), "mke2fs", args...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs %v: %v\n%s", options, err, out)
	}
	return file
}

func open(t testing.TB, file *os.File) *FS {
	t.Helper()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func find(t testing.TB, n volume.Node, name string) volume.Node {
	t.Helper()
	entries, err := n.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == name {
			child, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			return child
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// compare checks a tree against the folder that it was made from.
func compare(t *testing.T, n volume.Node, dir string) {
	t.Helper()
	want, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := n.Entries()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]volume.Node{}
	for _, e := range entries {
		child, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name] = child
	}
	delete(found, "lost+found")
	if len(found) != len(want) {
		t.Errorf("%s has %d files, want %d", dir, len(found), len(want))
	}
	for _, w := range want {
		full := filepath.Join(dir, w.Name())
		child, ok := found[w.Name()]
		if !ok {
			t.Errorf("%s is missing", full)
			continue
		}
		compareFile(t, child, full)
		if w.IsDir() {
			compare(t, child, full)
		}
	}
}

func compareFile(t *testing.T, n volume.Node, full string) {
	t.Helper()
	info, err := os.Lstat(full)
	if err != nil {
		t.Fatal(err)
	}
	stat := n.Stat()
	if stat.Mode != info.Mode() || !info.IsDir() && stat.Size != info.Size() || stat.ModTime.Unix() != info.ModTime().Unix() {
		t.Errorf("%s is %v, %d bytes, %v; want %v, %d, %v", full, stat.Mode, stat.Size, stat.ModTime, info.Mode(), info.Size(), info.ModTime())
	}
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		want, _ := os.Readlink(full)
		if got, err := n.Target(); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", full, got, err, want)
		}
	case info.Mode().IsRegular():
		r, err := n.Content()
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(r, 0, stat.Size)); err != nil {
			t.Fatal(full, err)
		}
		want, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(want); !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Errorf("%s has other content", full)
		}
		compareExtents(t, n, full, want)
	}
}

// compareExtents reads a file's content from where its extents say that it lies.
func compareExtents(t *testing.T, n volume.Node, full string, want []byte) {
	t.Helper()
	extents, err := n.Extents()
	if err != nil {
		t.Fatal(full, err)
	}
	node, ok := n.(*inode)
	if !ok || node.flags()&flagInlineData != 0 {
		return
	}
	got := make([]byte, int64(len(want))+node.fs.blockSize)
	for _, e := range extents {
		if _, err := node.fs.r.ReadAt(got[e.Logical:min(e.Logical+e.Length, int64(len(got)))], e.Physical); err != nil {
			t.Fatal(full, err)
		}
	}
	if !bytes.Equal(got[:len(want)], want) {
		t.Errorf("%s has other content at its extents", full)
	}
}

// Every block in use belongs to a region, to a file, or holds an extent tree,
// a block map or attributes: never to two of them.
func TestRegionsAndFilesDoNotOverlap(t *testing.T) {
	testenv.Need(t, "mke2fs", "dumpe2fs")
	dir := t.TempDir()
	populate(t, dir)
	for _, name := range []string{"ext4, as Debian makes it", "ext4 without 64bit", "ext3", "ext2 with inodes of 128"} {
		t.Run(name, func(t *testing.T) {
			file := makeFS(t, dir, flavours[name]...)
			f := open(t, file)
			regions, err := f.Layout()
			if err != nil {
				t.Fatal(err)
			}
			used := map[int64]string{}
			mark := func(what string, e volume.Extent) {
				for at := e.Physical; at < e.Physical+e.Length; at += f.blockSize {
					if other, taken := used[at]; taken && at > 0 {
						t.Fatalf("block %d belongs to %s and to %s", at/f.blockSize, other, what)
					}
					used[at] = what
				}
			}
			kinds := map[string]bool{}
			for _, r := range regions {
				kinds[r.Kind] = true
				mark(r.Kind, r.Extent)
			}
			if want := 4; len(kinds) != want && !strings.Contains(name, "ext2") {
				t.Errorf("regions of %d kinds, want %d: %v", len(kinds), want, kinds)
			}
			root, err := f.Root()
			if err != nil {
				t.Fatal(err)
			}
			markFiles(t, root, mark)
			if free := freeBlocks(t, file); int64(f.blocks)-free-int64(len(used)) > 500 || int64(len(used)) > int64(f.blocks)-free {
				t.Errorf("%d of %d blocks are explained, %d are free", len(used), f.blocks, free)
			}
		})
	}
}

func markFiles(t *testing.T, n volume.Node, mark func(string, volume.Extent)) {
	extents, err := n.Extents()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		mark(fmt.Sprint("inode ", n.Stat().Inode), e)
	}
	if !n.Stat().Mode.IsDir() {
		return
	}
	entries, err := n.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		child, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		markFiles(t, child, mark)
	}
}

// freeBlocks is what dumpe2fs counts.
func freeBlocks(t *testing.T, file *os.File) (free int64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dumpe2fs", "-h", file.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(line, "Free blocks:"); ok {
			if _, err := fmt.Sscan(value, &free); err != nil {
				t.Fatal(err)
			}
		}
	}
	return free
}

func TestFilesAreReadAsMke2fsWroteThem(t *testing.T) {
	testenv.Need(t, "mke2fs", "e2fsck")
	dir := t.TempDir()
	populate(t, dir)
	for name, options := range flavours {
		t.Run(name, func(t *testing.T) {
			file := makeFS(t, dir, options...)
			// e2fsck -D makes the hash trees that the kernel would have made.
			if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fyD", file.Name()).CombinedOutput(); err != nil && !strings.Contains(string(out), "FILE SYSTEM WAS MODIFIED") {
				t.Fatalf("e2fsck: %v\n%s", err, out)
			}
			f := open(t, file)
			if !f.Clean() {
				t.Error("the file system is not clean")
			}
			root, err := f.Root()
			if err != nil {
				t.Fatal(err)
			}
			compare(t, root, dir)
		})
	}
}

func TestExtendedAttributesAreRead(t *testing.T) {
	testenv.Need(t, "mke2fs", "debugfs")
	for name, options := range map[string][]string{
		"in the inode and a block": {"-t", "ext4", "-I", "256"},
		"in a block":               {"-t", "ext4", "-I", "128"},
		"in an inode of their own": {"-t", "ext4", "-O", "ea_inode"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			file := makeFS(t, dir, options...)
			value := strings.Repeat("v", 1500)
			if strings.HasSuffix(name, "own") {
				value = strings.Repeat("v", 4090) // debugfs sets up to a block
			}
			local := filepath.Join(t.TempDir(), "value")
			if err := os.WriteFile(local, []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"ea_set /file security.capability abc", "ea_set -f " + local + " /file user.long"} {
				if out, err := exec.CommandContext(t.Context(), "debugfs", "-w", "-R", command, file.Name()).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			root, err := open(t, file).Root()
			if err != nil {
				t.Fatal(err)
			}
			got, err := find(t, root, "file").Xattrs()
			if err != nil || got["security.capability"] != "abc" || got["user.long"] != value || len(got) != 2 {
				t.Errorf("%d attributes, %v; user.long has %d bytes, want %d", len(got), err, len(got["user.long"]), len(value))
			}
		})
	}
}

func TestFileSystemsLargerThanTheirVolumeAreRefused(t *testing.T) {
	testenv.Need(t, "mke2fs")
	file := makeFS(t, t.TempDir(), "-t", "ext4")
	if _, err := Open(file, 512<<20); err == nil {
		t.Error("opened")
	}
}

// overlaid reads a base with some bytes replaced.
type overlaid struct {
	io.ReaderAt
	at   int64
	with []byte
}

// ReadAt implements io.ReaderAt.
func (o overlaid) ReadAt(p []byte, at int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, at)
	for i := range o.with {
		if j := o.at + int64(i) - at; j >= 0 && j < int64(n) {
			p[j] = o.with[i]
		}
	}
	return n, err
}

// A damaged file system is an error or reads differently; it never takes the
// reader down, or takes for ever.
func FuzzDamagedFileSystem(f *testing.F) {
	if _, err := exec.LookPath("mke2fs"); err != nil {
		f.Skip("SKIPPED: this machine lacks mke2fs")
	}
	dir := f.TempDir()
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", i)), bytes.Repeat([]byte("x"), i*100), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.Symlink(strings.Repeat("z", 80), filepath.Join(dir, "link")); err != nil {
		f.Fatal(err)
	}
	var bases [][]byte
	for _, options := range [][]string{{"-t", "ext4", "-b", "1024", "-O", "inline_data"}, {"-t", "ext2", "-b", "1024"}, {"-t", "ext4"}} {
		name := filepath.Join(f.TempDir(), "fs")
		if out, err := exec.Command("mke2fs", append(append([]string{"-q", "-F", "-d", dir}, options...), name, "2M")...).CombinedOutput(); err != nil {
			f.Fatalf("%v\n%s", err, out)
		}
		base, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		bases = append(bases, base)
	}
	for _, at := range []uint32{1024 + 0x18, 1024 + 0x58, 2048 + 8, 4096 + 8, 40 << 10, 100 << 10} {
		f.Add(uint8(0), at, []byte{0xFF, 0xFF, 0xFF, 0xFF})
	}
	f.Fuzz(func(_ *testing.T, which uint8, at uint32, with []byte) {
		base := bases[int(which)%len(bases)]
		r := overlaid{bytes.NewReader(base), int64(at) % int64(len(base)), with}
		fs, err := Open(r, int64(len(base)))
		if err != nil {
			return
		}
		root, err := fs.Root()
		if err != nil {
			return
		}
		budget := 2000
		visit(root, 0, &budget)
	})
}

func visit(n volume.Node, depth int, budget *int) {
	if *budget--; *budget < 0 || depth > 4 {
		return
	}
	_, _ = n.Xattrs()
	_, _ = n.Target()
	if r, err := n.Content(); err == nil {
		_, _ = io.Copy(io.Discard, io.NewSectionReader(r, 0, min(n.Stat().Size, 1<<20)))
	}
	entries, err := n.Entries()
	if err != nil {
		return
	}
	for _, e := range entries {
		if child, err := e.Open(); err == nil {
			visit(child, depth+1, budget)
		}
	}
}
