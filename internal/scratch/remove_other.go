//go:build !linux

package scratch

import "os"

func remove(path string) error { return os.RemoveAll(path) }
