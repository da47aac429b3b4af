package gomodules

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/lru"
)

// What lies in the cache directory besides goproxy's, which is a GOPATH.
const (
	bundlesDir    = "bundles"    // of hard links to what the module cache has
	toolchainsDir = "toolchains" // unpacked
	goBuildDir    = "go-build"   // what the go command keeps when it locks
	unfinished    = ".tmp-"      // begins the names of folders that are not whole
)

// Entries lists what is in the cache directory: unpacked modules, toolchains, the
// modules of each locked component, and modules that no lock uses. Nobody may be
// using it: what is not whole was left by a process that is gone. The sizes of
// folders that never change are noted beside them, since there are 100,000 files.
func Entries(dir string) ([]lru.Entry, error) {
	known := readSizes(dir)
	noted := sizes{}
	var entries []lru.Entry
	for _, list := range []func(string, sizes, sizes) ([]lru.Entry, error){unpacked, toolchains, bundles, unlinked} {
		found, err := list(dir, known, noted)
		if err != nil {
			return nil, err
		}
		entries = append(entries, found...)
	}
	noted.write(dir)
	return entries, nil
}

// sizes are those of folders that never change, by path below the cache directory.
type sizes map[string]int64

func sizesFile(dir string) string { return filepath.Join(dir, "sizes.json") }

func readSizes(dir string) (s sizes) {
	if data, err := os.ReadFile(sizesFile(dir)); err != nil || json.Unmarshal(data, &s) != nil {
		return nil // then they are measured
	}
	return s
}

// write keeps the sizes. That it fails costs time only.
func (s sizes) write(dir string) {
	if data, err := json.Marshal(s); err == nil && len(s) > 0 {
		_ = atomicfile.WriteFile(sizesFile(dir), dir, data, 0o644)
	}
}

// folder returns the entry of a folder that never changes.
func folder(dir, name string, known, noted sizes) (lru.Entry, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return lru.Entry{}, err
	}
	bytes, ok := known[name]
	if !ok {
		if bytes, err = lru.Size(path); err != nil {
			return lru.Entry{}, err
		}
	}
	noted[name] = bytes
	return lru.Entry{Bytes: bytes, Used: info.ModTime(), Remove: func() error { return lru.Remove(path) }}, nil
}

// unpacked lists the modules that the go command unpacked: folders PATH@VERSION.
func unpacked(dir string, known, noted sizes) (entries []lru.Entry, err error) {
	top := filepath.Join(dir, "pkg", "mod")
	err = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path == filepath.Join(top, "cache"):
			return filepath.SkipDir
		case !e.IsDir() || !strings.Contains(e.Name(), "@"):
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		entry, err := folder(dir, name, known, noted)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
		return filepath.SkipDir
	})
	return entries, err
}

// toolchains lists the toolchains that lock with, and what the go command keeps
// between two locks.
func toolchains(dir string, known, noted sizes) (entries []lru.Entry, err error) {
	found, err := lru.List(filepath.Join(dir, toolchainsDir))
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		entry, err := folder(dir, filepath.Join(toolchainsDir, e.Name()), known, noted)
		if err != nil {
			return nil, err
		}
		entry.Stale = strings.HasPrefix(e.Name(), unfinished)
		entries = append(entries, entry)
	}
	if entry, err := lru.Tree(filepath.Join(dir, goBuildDir)); err == nil {
		entries = append(entries, entry)
	}
	return entries, nil
}

// bundles lists the modules of locked components. Of files that several have, the
// one that was used last has the bytes.
func bundles(dir string, _, _ sizes) ([]lru.Entry, error) {
	found, err := lru.List(filepath.Join(dir, bundlesDir))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	counted := map[string]bool{}
	var entries []lru.Entry
	for _, info := range found {
		path := filepath.Join(dir, bundlesDir, info.Name())
		entry := lru.Entry{Used: info.ModTime(), Stale: strings.HasPrefix(info.Name(), unfinished)}
		var only []string // files that no bundle which was used later has
		err := filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(path, file)
			if err != nil || counted[name] {
				return err
			}
			info, err := e.Info()
			if err == nil {
				counted[name] = true
				only, entry.Bytes = append(only, name), entry.Bytes+info.Size()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		entry.Remove = func() error { return removeBundle(dir, path, only) }
		entries = append(entries, entry)
	}
	return entries, nil
}

// downloads is where a GOPATH has what came from a module proxy.
func downloads(dir string) string { return filepath.Join(dir, "pkg", "mod", "cache", "download") }

// removeBundle removes a bundle and, of the files that it alone has, the module
// cache's link, too.
func removeBundle(dir, path string, only []string) error {
	for _, name := range only {
		cached := filepath.Join(downloads(dir), name)
		mine, err := os.Lstat(filepath.Join(path, name))
		if err != nil {
			continue // gone
		}
		if theirs, err := os.Lstat(cached); err == nil && os.SameFile(mine, theirs) {
			if err := os.Remove(cached); err != nil {
				return err
			}
		}
	}
	return lru.Remove(path)
}

// unlinked is the module cache's download folder: one entry that takes what no
// bundle has. Bundles lose nothing with it.
func unlinked(dir string, _, _ sizes) ([]lru.Entry, error) {
	info, err := os.Lstat(downloads(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entry := lru.Entry{Used: info.ModTime(), Remove: func() error { return lru.Remove(filepath.Dir(downloads(dir))) }}
	err = filepath.WalkDir(downloads(dir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil && links(info) < 2 {
			entry.Bytes += info.Size()
		}
		return err
	})
	return []lru.Entry{entry}, err
}
