// Package lru says what of a bounded folder goes: what was not used for longest.
//
// What comes in are the entries of a folder, which its owner lists, and a bound;
// what goes out is the list of those that are too much. When something was last
// used is its modification time, which who uses it sets (Touch): access times are
// switched off on many machines.
package lru

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Entry is what is removed as one.
type Entry struct {
	// Bytes are what is free without it, if all entries that were used before it
	// are gone.
	Bytes int64
	Used  time.Time
	// Stale is what a killed process left: it goes whatever the bound.
	Stale bool
	// Kept stays whatever the bound: it counts, and something hangs on it.
	Kept bool
	// Remove removes it; that it is gone already is no error.
	Remove func() error
}

// Total adds up what entries take.
func Total(entries []Entry) (bytes int64) {
	for _, e := range entries {
		bytes += e.Bytes
	}
	return bytes
}

// Excess returns what is stale and then, what was used longest ago first, what has
// to go until the rest is within the bound. Of entries used at the same time those
// that are listed first go first.
func Excess(entries []Entry, bound int64) []Entry {
	var gone, rest []Entry
	for _, e := range entries {
		if e.Stale {
			gone = append(gone, e)
		} else {
			rest = append(rest, e)
		}
	}
	slices.SortStableFunc(rest, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	left := Total(rest)
	for _, e := range rest {
		if left <= bound {
			break
		}
		if e.Kept {
			continue
		}
		gone, left = append(gone, e), left-e.Bytes
	}
	return gone
}

// List returns what is in a folder; nothing if it is not there.
func List(dir string) (found []fs.FileInfo, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		found = append(found, info)
	}
	return found, nil
}

// Tree returns the entry of a folder, or of one file, with everything below it.
func Tree(path string) (Entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Entry{}, err
	}
	bytes, err := Size(path)
	return Entry{Bytes: bytes, Used: info.ModTime(), Remove: func() error { return Remove(path) }}, err
}

// Size adds up the bytes of a tree's files. What goes away meanwhile counts as
// nothing.
func Size(path string) (bytes int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				bytes += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return bytes, err
}

// Remove removes a tree, also one whose folders can't be written to, as the go
// command leaves them.
func Remove(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	return os.RemoveAll(path)
}
