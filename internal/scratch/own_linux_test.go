package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// Own's folder has whatever is made in os.TempDir, and a process that is started by
// its owner has another beside it.
func TestTheTemporaryFilesOfAProcessGoWithItsEnd(t *testing.T) {
	parent := t.TempDir()
	killed := start(t, parent)
	if err := errors.Join(killed.process.Process.Kill(), os.Rename(killed.path, filepath.Join(parent, Prefix+"1"))); err != nil {
		t.Fatal(err)
	}
	_ = killed.process.Wait() // it was killed
	t.Setenv(temporaryVariable, parent)
	end, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	own := os.TempDir()
	endNext, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	next := os.TempDir()
	for _, dir := range []string{own, next} {
		if filepath.Dir(dir) != parent {
			t.Errorf("os.TempDir is %s, want a folder in %s", dir, parent)
		}
	}
	if len(names(t, parent)) != 2 {
		t.Errorf("there are %v, want %s and %s", names(t, parent), own, next)
	}
	_, err = os.MkdirTemp("", "of-a-library-")
	if err := errors.Join(err, endNext(), end()); err != nil {
		t.Error(err)
	}
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	if os.TempDir() != parent {
		t.Errorf("os.TempDir is %s, want %s", os.TempDir(), parent)
	}
}

func TestWhatIsMountedInAFolderStays(t *testing.T) {
	testenv.NeedRoot(t)
	results, parent := t.TempDir(), t.TempDir()
	file := filepath.Join(results, "layer", "file")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("content"), 0o600), os.Symlink(parent, link)); err != nil {
		t.Fatal(err)
	}
	d, err := New(link, prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "with space"} {
		at := filepath.Join(d.Path(), name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for range 2 { // one over the other
			if err := unix.Mount(results, at, "", unix.MS_BIND, ""); err != nil {
				testenv.Lacks(t, "the permission to mount: "+err.Error())
			}
			t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}
