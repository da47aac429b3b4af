package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sys/unix"
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
		t.Skip("SKIPPED: the file system of the temporary directory has no extended attributes, and the file is then copied anew")
	}
	if one.holds(path) {
		t.Error("a file without a mark has an origin")
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

func TestSizesTellHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<30); err != nil {
		t.Fatal(err)
	}
	length, stored, err := sizes(path)
	if err != nil || length != 1<<30 || stored > 1<<20 {
		t.Errorf("length %d, stored %d, %v", length, stored, err)
	}
}
