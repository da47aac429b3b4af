package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestAFileKnowsItsOriginUntilItIsChanged(t *testing.T) {
	ctx := t.Context()
	one, err := originOf(ctx, llb.Scratch().File(llb.Mkfile("/a", 0o644, []byte("1"))))
	if err != nil {
		t.Fatal(err)
	}
	other, err := originOf(ctx, llb.Scratch().File(llb.Mkfile("/a", 0o644, []byte("2"))))
	if err != nil || one == other {
		t.Fatalf("two graphs, one origin %s (%v)", one, err)
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	if one.holds(path) {
		t.Error("a file that is not there has an origin")
	}
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lsetxattr(path, "user.nodesmith.test", []byte("x"), 0); errors.Is(err, unix.ENOTSUP) {
		testenv.Lacks(t, "a temporary directory on a file system with extended attributes")
	}
	if one.holds(path) {
		t.Error("a file without a mark has an origin")
	}
	for name, changed := range map[string]origin{
		"another format":   one.as(format.Format{Name: "b", Revision: 1}, "x"),
		"another revision": one.as(format.Format{Name: "a", Revision: 2}, "x"),
		"other options":    one.as(format.Format{Name: "a", Revision: 1}, "y"),
		"another disk":     other.as(format.Format{Name: "a", Revision: 1}, "x"),
	} {
		if changed == one.as(format.Format{Name: "a", Revision: 1}, "x") {
			t.Errorf("%s: the same origin", name)
		}
	}
	if err := one.mark(path); err != nil {
		t.Fatal(err)
	}
	if !one.holds(path) || other.holds(path) {
		t.Errorf("holds its origin: %v, another: %v", one.holds(path), other.holds(path))
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if one.holds(path) {
		t.Error("a file that was touched still counts as the graph's result")
	}
}

// What stands in a file's place is not the file, and more in it is another.
func TestOnlyTheVeryFileHoldsItsOrigin(t *testing.T) {
	dir := t.TempDir()
	o, err := originOf(t.Context(), llb.Scratch().File(llb.Mkfile("/a", 0o644, []byte("1"))))
	if err != nil {
		t.Fatal(err)
	}
	path, link := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "link.raw")
	if err := o.mark(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there was marked: %v", err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("content"), 0o644), os.Symlink(path, link), o.mark(path)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lsetxattr(path, "user.nodesmith.test", []byte("x"), 0); errors.Is(err, unix.ENOTSUP) {
		testenv.Lacks(t, "a temporary directory on a file system with extended attributes")
	}
	if o.holds(link) || o.holds(dir) {
		t.Error("a link, or a folder, counts as the graph's result")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("longer than before"), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if o.holds(path) {
		t.Error("a file that grew, with its old time, still counts as the graph's result")
	}
}

func TestHolesTakeNoRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<30); err != nil {
		t.Fatal(err)
	}
	stored, err := storedBytes(path)
	if err != nil || stored > 1<<20 {
		t.Errorf("stored %d, %v", stored, err)
	}
}
