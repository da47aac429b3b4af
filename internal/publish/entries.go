package publish

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/lru"
)

// journalSuffix ends the names of journals.
const journalSuffix = ".journal"

// Journals lists the paths of the journals below dir, where each place has a folder.
func Journals(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "*", "*"+journalSuffix))
}

// Entries lists what lies below dir: journals, and what publishers note beside them,
// which they can find out anew. A journal that names a step which was begun and is
// not done is kept, whatever its age: nothing else on this machine knows what that
// step may have made. So is one that can't be read. Without the others, publishing the
// same image again finds what is there by its tags.
func Entries(dir string) (entries []lru.Entry, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		entry := lru.Entry{Bytes: info.Size(), Used: info.ModTime(), Remove: func() error { return lru.Remove(path) }}
		if strings.HasSuffix(path, journalSuffix) {
			state, err := ReadState(path)
			entry.Kept = err != nil || !state.finished()
			entry.Remove = func() error { return removeFinished(path) }
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// finished says whether every step that was begun is done.
func (s State) finished() bool {
	return !slices.ContainsFunc(s.Entries(), func(e Entry) bool { return !e.Done })
}

// removeFinished removes a journal that nobody uses and that names nothing
// unfinished; another one stays. Who opens it at the same time opens it anew.
func removeFinished(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close() // and with it the lock, once the file has no name
	if lockFile(file) != nil {
		return nil //nolint:nilerr // it is in use
	}
	if state, err := ReadState(path); err != nil || !state.finished() {
		return nil //nolint:nilerr // it was used meanwhile
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(path)) // the place's folder, if that was its last
	return nil
}
