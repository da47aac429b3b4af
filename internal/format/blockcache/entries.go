package blockcache

import (
	"io/fs"
	"path/filepath"
	"strings"

	"nodesmith.dev/nodesmith/internal/lru"
)

// Entries lists the segments in dir and below. A process that reads one goes on
// when it is removed; what is not finished is left to Close, which knows its age.
func Entries(dir string) (entries []lru.Entry, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return nil //nolint:nilerr // what can't be read is not counted
		}
		entry, err := lru.Tree(path)
		if err == nil {
			entries = append(entries, entry)
		}
		return nil //nolint:nilerr // gone meanwhile
	})
	return entries, err
}
