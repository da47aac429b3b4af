//go:build !unix

package scratch

import "os"

func create(parent, prefix string) (*Dir, error) {
	path, err := os.MkdirTemp(parent, prefix)
	return &Dir{path: path}, err
}

func unlock(dir *os.File) error { return dir.Close() }

func sweep(string) (bool, error) { return false, nil }
