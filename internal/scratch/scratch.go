// Package scratch makes temporary folders that outlive no process for long.
//
// What comes in is a place and the beginning of a name; what goes out is a folder
// that its process holds a lock on (flock(2) on the folder itself). The kernel
// drops the lock with the process, however that ends, so a folder whose lock can
// be taken belongs to nobody: New removes such folders of that beginning first,
// and Sweep does nothing else. A folder gets a name that they look at only once it
// is locked, so none is ever seen without its owner's lock. Where folders can't be
// locked (Windows) they are ordinary temporary folders, which nobody sweeps.
//
// Own does the same for every temporary file of a process, those of libraries and of
// the programs that it runs among them.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Dir is a temporary folder. Close removes it.
type Dir struct {
	path string
	lock *os.File // nil where folders can't be locked
}

// Prefix begins the names of nodesmith's own folders among those of other programs.
const Prefix = "nodesmith-tmp-"

// unborn begins the names of folders that are not locked yet.
const unborn = ".unborn-"

// New makes a folder in parent, os.TempDir if that is "", whose name begins with
// prefix; before that it removes those that killed processes left.
func New(parent, prefix string) (*Dir, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	_, _ = Sweep(parent, prefix) // what it could not remove stays for the next
	d, err := create(parent, prefix)
	if err != nil {
		return nil, fault.NoSpaceOr(fmt.Errorf("make a temporary folder: %w", err))
	}
	return d, nil
}

// Path is where the folder lies.
func (d *Dir) Path() string { return d.path }

// Close removes the folder with everything in it, and ends its lock after that.
func (d *Dir) Close() error {
	err := remove(d.path)
	if d.lock != nil {
		err = errors.Join(err, unlock(d.lock))
	}
	return err
}

// Sweep removes the folders in parent whose name begins with prefix and that no
// living process owns. It returns how many they were; what it can't remove is an
// error after the others are gone.
func Sweep(parent, prefix string) (swept int, err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	var failures []error
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		switch {
		case !e.IsDir():
		case strings.HasPrefix(e.Name(), prefix+unborn):
			// Empty, or it would have its name; its owner makes another one.
			if os.Remove(path) == nil {
				swept++
			}
		case strings.HasPrefix(e.Name(), prefix):
			gone, err := sweep(path)
			if gone {
				swept++
			}
			failures = append(failures, err)
		}
	}
	return swept, errors.Join(failures...)
}
