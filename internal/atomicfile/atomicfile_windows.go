package atomicfile

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file on its way. CloseAtomicallyReplace gives it its name, Cleanup
// removes it if it has none.
type File struct {
	*os.File
	path         string
	done, closed bool
}

// New creates a file that will replace path. It lies in dir until then, which is on
// path's volume; "" is path's own directory. Windows takes nothing of perm but
// whether the file may be written.
func New(path, dir string, perm fs.FileMode) (*File, error) {
	f, err := os.CreateTemp(cmp.Or(dir, filepath.Dir(path)), "."+filepath.Base(path)+"*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{File: f, path: path}, nil
}

// CloseAtomicallyReplace gives the file its name once its content is on the disk.
func (f *File) CloseAtomicallyReplace() error {
	if err := f.Sync(); err != nil {
		return err
	}
	f.closed = true
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.done = true
	return nil
}

// Cleanup removes the file, unless it got its name.
func (f *File) Cleanup() error {
	if f.done {
		return nil
	}
	f.done = true
	var err error
	if !f.closed {
		err = f.Close()
	}
	return errors.Join(err, os.Remove(f.Name()))
}
