package ext4

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// bookworm is what GRUB 2.06 and e2fsprogs 1.47.0 of Debian 12 understand.
var bookworm = strings.Split("has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,"+
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum", ",")

const offset = 3 * size.MiB

func sample(features ...string) FileSystem {
	return FileSystem{
		Offset: offset, Size: 64 * size.MiB, Label: "root", Features: append(features, bookworm...),
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

func write(t *testing.T, f FileSystem, tree string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(f.Offset+f.Size+size.MiB)); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), tree, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestE2fsckFindsNothing(t *testing.T) {
	testenv.Need(t, "e2fsck", "mke2fs")
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
	testenv.Need(t, "debugfs", "mke2fs")
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
	testenv.Need(t, "cp", "mke2fs")
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
	testenv.Need(t, "mke2fs")
	f := sample()
	image, err := os.ReadFile(write(t, f, makeTree(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, region := range map[string][]byte{"before": image[:f.Offset], "behind": image[f.Offset+f.Size:]} {
		if len(bytes.Trim(region, "\x00")) != 0 {
			t.Errorf("bytes were written %s the region", name)
		}
	}
}

func TestATreeThatDoesNotFitIsTheSpecsFault(t *testing.T) {
	testenv.Need(t, "mke2fs")
	f, tree := sample(), t.TempDir()
	f.Size = 16 * size.MiB
	if err := os.WriteFile(filepath.Join(tree, "big"), bytes.Repeat([]byte("x"), int(20*size.MiB)), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), tree, path); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("got %v", err)
	}
}

func TestFileSystemsThatCannotBeAreErrors(t *testing.T) {
	for name, spoil := range map[string]func(*FileSystem){
		"odd size":        func(f *FileSystem) { f.Size++ },
		"odd offset":      func(f *FileSystem) { f.Offset += 512 },
		"no UUID":         func(f *FileSystem) { f.UUID = gpt.GUID{} },
		"no hash seed":    func(f *FileSystem) { f.HashSeed = gpt.GUID{} },
		"long label":      func(f *FileSystem) { f.Label = strings.Repeat("x", 17) },
		"no features":     func(f *FileSystem) { f.Features = nil },
		"hostile name":    func(f *FileSystem) { f.Features = []string{"extent,^filetype"} },
		"no epoch":        func(f *FileSystem) { f.Epoch = time.Time{} },
		"unknown feature": func(f *FileSystem) { f.Features = []string{"no_such_feature"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := sample()
			spoil(&f)
			path := filepath.Join(t.TempDir(), "disk.raw")
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.Write(t.Context(), t.TempDir(), path); err == nil {
				t.Error("no error")
			}
		})
	}
}
