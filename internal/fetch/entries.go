package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/lru"
)

// Entries lists the files of the cache in dir. Nobody may be using it: what has no
// digest for a name was not finished by a process that is gone.
func Entries(dir string) (entries []lru.Entry, err error) {
	err = filepath.WalkDir(filepath.Join(dir, "sha256"), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		entry, err := lru.Tree(path)
		sum, bad := hex.DecodeString(e.Name())
		entry.Stale = bad != nil || len(sum) != sha256.Size
		entries = append(entries, entry)
		return err
	})
	return entries, err
}
