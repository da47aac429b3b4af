package ext4_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/hostdir"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// bookworm is what GRUB 2.06 and e2fsprogs 1.47.0 of Debian 12 understand.
var bookworm = strings.Split("has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,"+
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum", ",")

const offset = 3 * size.MiB

func sample(features ...string) ext4.FileSystem {
	return ext4.FileSystem{
		Size: 64 * size.MiB, Label: "root", Features: append(features, bookworm...),
		UUID:     gpt.MustGUID("11111111-2222-8333-8444-555555555555"),
		HashSeed: gpt.MustGUID("11111111-2222-8333-8444-666666666666"),
		Epoch:    time.Unix(1_750_000_000, 0),
	}
}

// makeTree makes a tree whose modification times are fixed; all other times are
// those of the moment.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "usr/bin", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"etc/hostname": "node\n", "usr/bin/tool": strings.Repeat("x", 100_000), "etc/new": "newer than the epoch"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "usr/bin/alias")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/bin", filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1_600_000_000, 0)
	for _, name := range []string{"etc/hostname", "usr/bin/tool", "usr/bin", "usr", "etc", "dev", "."} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// build lays a tree of the host out.
func build(t *testing.T, f ext4.FileSystem, tree string) (*ext4.Image, error) {
	t.Helper()
	entries, err := hostdir.Entries(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	return f.Build(t.Context(), entries)
}

// write writes the tree's file system into a new file, at an offset.
func write(t *testing.T, f ext4.FileSystem, tree string) string {
	t.Helper()
	image, err := build(t, f, tree)
	if err != nil {
		t.Fatal(err)
	}
	return writeImage(t, image, offset)
}

func writeImage(t testing.TB, image *ext4.Image, offset size.Bytes) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(int64(offset) + image.Size() + int64(size.MiB)); err != nil {
		t.Fatal(err)
	}
	if err := image.WriteMetadata(file, int64(offset)); err != nil {
		t.Fatal(err)
	}
	for _, e := range image.Files() {
		if err := copyFile(io.NewOffsetWriter(file, int64(offset)+e.Start), e); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// copyFile writes what an extent holds of its file.
func copyFile(w io.Writer, e ext4.FileExtent) error {
	content, err := e.Entry.Content.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(content, e.Offset, min(e.Length, e.Entry.Content.Size()-e.Offset)))
	return errors.Join(err, content.Close())
}

func TestE2fsckFindsNothing(t *testing.T) {
	testenv.Need(t, "e2fsck")
	for name, extra := range map[string][]string{"bookworm": nil, "checksum seed": {"metadata_csum_seed"}} {
		t.Run(name, func(t *testing.T) {
			path := write(t, sample(extra...), makeTree(t))
			out, err := exec.Command("e2fsck", "-fn", path+"?offset=3145728").CombinedOutput()
			if err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
	without := sample()
	without.Features = strings.Split("has_journal,ext_attr,resize_inode,dir_index,filetype,extent,sparse_super,large_file,extra_isize", ",")
	path := write(t, without, makeTree(t))
	if out, err := exec.Command("e2fsck", "-fn", path+"?offset=3145728").CombinedOutput(); err != nil {
		t.Errorf("without checksums and 64bit: %v\n%s", err, out)
	}
}

func TestTimesComeFromTheTreeAndTheEpoch(t *testing.T) {
	testenv.Need(t, "debugfs")
	path := write(t, sample(), makeTree(t))
	old, epoch := fmt.Sprintf("0x%x", 1_600_000_000), fmt.Sprintf("0x%x", sample().Epoch.Unix())
	for file, want := range map[string]string{
		"/etc/hostname": old, // the tree's modification time
		"/etc/new":      epoch,
		"/bin":          epoch,
		"/lost+found":   epoch,
	} {
		out, err := exec.Command("debugfs", "-R", "stat "+file, path+"?offset=3145728").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, which := range []string{" ctime: ", " atime: ", " mtime: "} {
			if !strings.Contains(string(out), which+want+":00000000") {
				t.Errorf("%s:%sis not %s in\n%s", file, which, want, out)
			}
		}
		if !strings.Contains(string(out), "crtime: "+epoch+":00000000") {
			t.Errorf("%s: wrong creation time in\n%s", file, out)
		}
	}
}

func TestCopiesOfATreeGiveTheSameBytes(t *testing.T) {
	testenv.Need(t, "cp")
	tree := makeTree(t)
	twin := filepath.Join(t.TempDir(), "twin")
	if out, err := exec.Command("cp", "-a", tree, twin).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, err := os.ReadFile(write(t, sample(), tree))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // access and change times differ by a second
	second, err := os.ReadFile(write(t, sample(), twin))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the file systems differ")
	}
}

func TestNothingIsWrittenOutsideTheRegion(t *testing.T) {
	testenv.Need(t)
	f := sample()
	image, err := os.ReadFile(write(t, f, makeTree(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, region := range map[string][]byte{"before": image[:offset], "behind": image[offset+f.Size:]} {
		if len(bytes.Trim(region, "\x00")) != 0 {
			t.Errorf("bytes were written %s the region", name)
		}
	}
}

func TestTheRootDirectoryIsTheTrees(t *testing.T) {
	testenv.Need(t, "debugfs", "e2fsck")
	testenv.NeedRoot(t)
	tree := makeTree(t)
	if err := os.Chown(tree, 70_000, 80_000); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tree, 0o700|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := write(t, sample(), tree)
	out, err := exec.Command("debugfs", "-R", "stat /", path+"?offset=3145728").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Mode:  01700", "User: 70000", "Group: 80000"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, err := exec.Command("e2fsck", "-fn", path+"?offset=3145728").CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func TestABareFileSystemHasNothingInIt(t *testing.T) {
	testenv.Need(t, "debugfs", "e2fsck")
	f := sample()
	f.Bare = true
	path := write(t, f, t.TempDir())
	out, err := exec.Command("debugfs", "-R", "ls -p /", path+"?offset=3145728").Output()
	if err != nil || strings.Contains(string(out), "lost+found") || strings.Count(strings.TrimSpace(string(out)), "\n") != 1 {
		t.Errorf("%v: the root directory holds\n%s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-fn", path+"?offset=3145728").CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	full := t.TempDir()
	if err := os.MkdirAll(filepath.Join(full, "lost+found", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := build(t, f, full); err == nil || !strings.Contains(err.Error(), "lost+found is there, and not empty") {
		t.Errorf("with a lost+found in the tree: %v", err)
	}
}

// What an empty file system leaves free is never less than Capacity says, and
// hardly more.
func TestCapacityIsWhatIsFree(t *testing.T) {
	testenv.Need(t, "dumpe2fs")
	empty := t.TempDir()
	for _, length := range []size.Bytes{16, 64, 127, 128, 200, 1024, 3000, 8192, 20_000, 300_000} {
		length *= size.MiB
		f := sample()
		f.Size = length
		image, err := build(t, f, empty)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("dumpe2fs", "-h", writeImage(t, image, 0)).Output()
		if err != nil {
			t.Fatal(err)
		}
		number := func(name string) (n int64) {
			_, rest, _ := strings.Cut(string(out), "\n"+name+":")
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, out)
			}
			return n
		}
		capacity, err := f.Capacity()
		if err != nil {
			t.Fatal(err)
		}
		inodes, overhead := capacity.Inodes, length-capacity.Data
		if free := length - size.Bytes(number("Free blocks"))*ext4.BlockSize; overhead < free || overhead > free+size.MiB+length/10_000 {
			t.Errorf("%v: %v is taken, Capacity says %v", length, free, overhead)
		}
		if free := number("Free inodes"); inodes > free || inodes < free-1000 && inodes < free-free/100 {
			t.Errorf("%v: %d inodes are free, Capacity says %d", length, free, inodes)
		}
		if reserved, blocks := number("Reserved block count"), number("Block count"); reserved > blocks/ext4.ReservedShare {
			t.Errorf("%v: %d of %d blocks are kept for root", length, reserved, blocks)
		}
	}
}

func TestATreeThatDoesNotFitIsTheSpecsFault(t *testing.T) {
	testenv.Need(t)
	f, tree := sample(), t.TempDir()
	f.Size = 16 * size.MiB
	if err := os.WriteFile(filepath.Join(tree, "big"), bytes.Repeat([]byte("x"), int(20*size.MiB)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build(t, f, tree); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("got %v", err)
	}
}

func TestFileSystemsThatCannotBeAreErrors(t *testing.T) {
	for name, spoil := range map[string]func(*ext4.FileSystem){
		"odd size":        func(f *ext4.FileSystem) { f.Size++ },
		"no UUID":         func(f *ext4.FileSystem) { f.UUID = gpt.GUID{} },
		"no hash seed":    func(f *ext4.FileSystem) { f.HashSeed = gpt.GUID{} },
		"long label":      func(f *ext4.FileSystem) { f.Label = strings.Repeat("x", 17) },
		"no features":     func(f *ext4.FileSystem) { f.Features = nil },
		"hostile name":    func(f *ext4.FileSystem) { f.Features = []string{"extent,^filetype"} },
		"no epoch":        func(f *ext4.FileSystem) { f.Epoch = time.Time{} },
		"unknown feature": func(f *ext4.FileSystem) { f.Features = []string{"no_such_feature"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := sample()
			spoil(&f)
			if _, err := build(t, f, t.TempDir()); err == nil {
				t.Error("no error")
			}
		})
	}
}
