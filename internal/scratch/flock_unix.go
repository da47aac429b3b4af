//go:build unix

package scratch

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// create makes the folder under a name that is not swept by its lock, locks it and
// gives it its own.
func create(parent, prefix string) (*Dir, error) {
	for {
		before, err := os.MkdirTemp(parent, prefix+unborn)
		if err != nil {
			return nil, err
		}
		lock, err := take(before)
		if err == nil {
			path := filepath.Join(parent, prefix+rand.Text()[:12])
			if err = os.Rename(before, path); err == nil {
				return &Dir{path, lock}, nil
			}
			err = errors.Join(err, unlock(lock))
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errOwned) { // else another process sweeps it
			return nil, errors.Join(err, os.RemoveAll(before))
		}
	}
}

// errOwned says that a living process has the folder.
var errOwned = errors.New("another process has the folder")

// take opens the folder and locks it.
func take(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errOwned
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// unlock ends the lock at once. Closing alone would leave it to a child that was
// forked just now and has not executed its program yet.
func unlock(dir *os.File) error {
	return errors.Join(unix.Flock(int(dir.Fd()), unix.LOCK_UN), dir.Close())
}

// sweep removes the folder if nobody owns it. Other users' folders stay, also for
// root: they may be in a name space of their own.
func sweep(path string) (gone bool, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, nil //nolint:nilerr // another process was faster
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return false, nil
	}
	lock, err := take(path)
	if errors.Is(err, errOwned) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = remove(path)
	return err == nil, errors.Join(err, unlock(lock))
}
