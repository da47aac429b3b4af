package whiteout_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/whiteout"
)

func TestWhiteoutsAreTakenOutAndNothingElse(t *testing.T) {
	testenv.NeedRoot(t)
	root, long := t.TempDir(), time.Unix(1000, 0)
	dir := filepath.Join(root, "layer", "dir")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, device := range map[string]int{"b": 0, "a": 0, "null": int(unix.Mkdev(1, 3))} {
		if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR, device); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(dir, long, long); err != nil {
		t.Fatal(err)
	}
	list, err := whiteout.Take(root, time.Unix(7, 0).UTC())
	if err != nil || !slices.Equal(list.Paths, []string{"layer/dir/a", "layer/dir/b"}) {
		t.Fatalf("%v, %v", list, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "null" {
		t.Errorf("left are %v, %v", left, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.ModTime().Equal(long) {
		t.Errorf("the directory's time is %v, %v", info.ModTime(), err)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := list.Write(file); err != nil {
		t.Fatal(err)
	}
	read, err := whiteout.Read(file)
	if err != nil || !read.ModTime.Equal(list.ModTime) || !slices.Equal(read.Paths, list.Paths) {
		t.Errorf("%v, %v", read, err)
	}
}

func TestAWhiteoutLiesOnOneFileSystem(t *testing.T) {
	list := whiteout.List{Paths: []string{"opt/a", "var/lib/b", "var/library/c", "var/lib/containerd/d"}}
	mounted := []string{"/", "/var/lib/containerd", "/var/lib"}
	for mountPoint, want := range map[string][]string{
		"/": {"opt/a", "var/library/c"}, "/var/lib": {"b"}, "/var/lib/containerd": {"d"}, "/home": nil,
	} {
		if got := list.On(mountPoint, mounted); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", mountPoint, got, want)
		}
	}
}

func TestAListThatLeavesTheTreeIsRefused(t *testing.T) {
	for _, text := range []string{`{"paths":["../x"]}`, `{"paths":["/x"]}`, `{"paths":["a//b"]}`, `{"paths":[""]}`, `{`} {
		file := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if list, err := whiteout.Read(file); err == nil {
			t.Errorf("%s: %v", text, list)
		}
	}
}
