//go:build unix

package scratch

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const prefix = "nodesmith-test-"

// ownerVariable makes this test program a process that owns a folder in the place
// that it names, until its input ends.
const ownerVariable = "NODESMITH_TEST_OWNER"

func TestMain(m *testing.M) {
	parent := os.Getenv(ownerVariable)
	if parent == "" {
		os.Exit(m.Run())
	}
	d, err := New(parent, prefix)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.Path(), "file"), []byte("content"), 0o600)
	}
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(d.Path() + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := d.Close(); err != nil {
		panic(err)
	}
}

// owner is another process with a folder.
type owner struct {
	process *exec.Cmd
	input   io.Closer
	path    string
}

func start(t *testing.T, parent string) owner {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env, c.Stderr = append(os.Environ(), ownerVariable+"="+parent), os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return owner{c, in, line[:len(line)-1]}
}

func names(t *testing.T, parent string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(parent, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestAFolderOfALivingProcessStays(t *testing.T) {
	parent := t.TempDir()
	other := start(t, parent)
	d, err := New(parent, prefix)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Sweep(parent, prefix); n != 0 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if len(names(t, parent)) != 2 {
		t.Errorf("left are %v", names(t, parent))
	}
	if err := errors.Join(d.Close(), other.input.Close(), other.process.Wait()); err != nil {
		t.Error(err)
	}
	if left := names(t, parent); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestAFolderOfAKilledProcessGoesWithTheNext(t *testing.T) {
	parent := t.TempDir()
	for _, next := range []func() error{
		func() error { _, err := Sweep(parent, prefix); return err },
		func() error {
			d, err := New(parent, prefix)
			if err == nil {
				err = d.Close()
			}
			return err
		},
	} {
		killed := start(t, parent)
		if err := killed.process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = killed.process.Wait() // it was killed
		if _, err := os.Stat(filepath.Join(killed.path, "file")); err != nil {
			t.Fatal(err)
		}
		if err := next(); err != nil {
			t.Error(err)
		}
		if left := names(t, parent); len(left) != 0 {
			t.Errorf("left are %v", left)
		}
	}
}

func TestManyFoldersAreMadeAndSweptAtOnce(t *testing.T) {
	parent := t.TempDir()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				d, err := New(parent, prefix)
				if err != nil {
					t.Error(err)
					return
				}
				file := filepath.Join(d.Path(), "file")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Error(err)
				}
				if _, err := Sweep(parent, prefix); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(file); err != nil {
					t.Error(err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left := names(t, parent); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestWhatIsNoFolderOfOursIsNotSwept(t *testing.T) {
	parent := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(
		os.Mkdir(outside, 0o700), os.Symlink(outside, filepath.Join(parent, prefix+"link")),
		os.WriteFile(filepath.Join(parent, prefix+"file"), nil, 0o600), os.Mkdir(filepath.Join(parent, "other"), 0o700),
		os.MkdirAll(filepath.Join(parent, prefix+unborn+"1", "content"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	if n, err := Sweep(parent, prefix); n != 0 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if left := names(t, parent); len(left) != 4 {
		t.Errorf("left are %v", left)
	}
}
