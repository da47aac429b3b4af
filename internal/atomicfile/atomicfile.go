// Package atomicfile writes files that have their final name only once they are
// whole.
//
// What comes in is content, what goes out a file that replaced what was there
// before, durably, or nothing. Until then it lies beside its place, or in a
// directory of the caller's on the same file system.
//
// Other systems than Windows are renameio's part, which has none for Windows.
package atomicfile

import (
	"errors"
	"io/fs"
)

// WriteFile replaces path by a file of data. perm is less the umask. The temporary
// file lies in dir, which is on path's file system; "" is path's own directory.
func WriteFile(path, dir string, data []byte, perm fs.FileMode) (err error) {
	f, err := New(path, dir, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }() // does nothing once the file has its name
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
