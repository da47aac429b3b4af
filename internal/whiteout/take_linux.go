package whiteout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Is says whether a file is a whiteout (Documentation/filesystems/overlayfs.rst,
// "whiteouts and opaque directories").
func Is(name string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(name, &stat); err != nil {
		return false, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0, nil
}

// Take removes the whiteouts of a tree and lists them, all with that time. The
// times of their directories stay.
func Take(root string, modTime time.Time) (List, error) {
	list := List{ModTime: modTime, Paths: []string{}}
	times := map[string]time.Time{} // of directories
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeCharDevice == 0 {
			return err
		}
		is, err := Is(name)
		if err != nil || !is {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if dir := filepath.Dir(name); times[dir].IsZero() {
			info, err := os.Stat(dir)
			if err != nil {
				return err
			}
			times[dir] = info.ModTime()
		}
		list.Paths = append(list.Paths, filepath.ToSlash(relative))
		return os.Remove(name)
	})
	for dir, was := range times {
		err = errors.Join(err, os.Chtimes(dir, was, was))
	}
	slices.Sort(list.Paths)
	return list, err
}
