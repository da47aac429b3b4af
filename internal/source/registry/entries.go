package registry

import (
	"path/filepath"
	"strings"

	"nodesmith.dev/nodesmith/internal/lru"
)

// pulling begins the names of folders that are not whole yet.
const pulling = ".pull-"

// Entries lists the container images in dir. Nobody may be using it: what is not
// whole was left by a process that is gone.
func Entries(dir string) (entries []lru.Entry, err error) {
	folders, err := lru.List(filepath.Join(dir, "sha256"))
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		entry, err := lru.Tree(filepath.Join(dir, "sha256", f.Name()))
		if err != nil {
			return nil, err
		}
		entry.Stale = strings.HasPrefix(f.Name(), pulling)
		entries = append(entries, entry)
	}
	return entries, nil
}
