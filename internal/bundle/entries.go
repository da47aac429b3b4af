package bundle

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/lru"
)

// Entries lists the bundles of the store in dir; each takes the blobs that none
// which was used later has. Nobody may be using the store: blobs that no bundle
// has, and those that are not whole, were left by a process that is gone.
func Entries(dir string) ([]lru.Entry, error) {
	stored, err := lru.List(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	blobs := map[string]fs.FileInfo{} // that no bundle takes yet
	for _, blob := range stored {
		blobs[blob.Name()] = blob
	}
	records, err := lru.List(filepath.Join(dir, "index"))
	if err != nil {
		return nil, err
	}
	var entries []lru.Entry
	slices.SortFunc(records, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, record := range records {
		path := filepath.Join(dir, "index", record.Name())
		entry := lru.Entry{Bytes: record.Size(), Used: record.ModTime(), Stale: true}
		paths := []string{path} // the record first: what names nothing is only stale
		for _, blob := range named(dir, path) {
			if info, ok := blobs[blob]; ok {
				entry.Bytes += info.Size()
				paths = append(paths, filepath.Join(dir, "blobs", "sha256", blob))
				delete(blobs, blob)
			}
			entry.Stale = false
		}
		entry.Remove = func() error { return removeAll(paths) }
		entries = append(entries, entry)
	}
	for name, info := range blobs {
		path := filepath.Join(dir, "blobs", "sha256", name)
		entries = append(entries, lru.Entry{Bytes: info.Size(), Used: info.ModTime(), Stale: true, Remove: func() error { return lru.Remove(path) }})
	}
	ingests, err := lru.List(filepath.Join(dir, "ingest"))
	if err != nil {
		return nil, err
	}
	for _, i := range ingests {
		entry, err := lru.Tree(filepath.Join(dir, "ingest", i.Name()))
		if err != nil {
			return nil, err
		}
		entry.Stale = true
		entries = append(entries, entry)
	}
	return entries, nil
}

// named returns the blobs of the bundle that a record names: its manifest and what
// that names. None means that it names nothing that can be read.
func named(dir, record string) []string {
	text, err := os.ReadFile(record)
	if err != nil {
		return nil
	}
	manifest, err := digest.Parse(string(text))
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", manifest.Encoded()))
	var m ocispecs.Manifest
	if err != nil || json.Unmarshal(data, &m) != nil {
		return nil
	}
	blobs := []string{manifest.Encoded()}
	for _, d := range append(m.Layers, m.Config) {
		if d.Digest.Validate() == nil {
			blobs = append(blobs, d.Digest.Encoded())
		}
	}
	return blobs
}

func removeAll(paths []string) error {
	for _, path := range paths {
		if err := lru.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
