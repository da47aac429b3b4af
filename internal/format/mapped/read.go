package mapped

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/disk/diskmap"
	"nodesmith.dev/nodesmith/internal/format"
)

// parse reads a map.
func parse(data []byte) (*diskmap.Map, error) {
	var m diskmap.Map
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("map of a disk: %w", err)
	}
	if err := check(&m); err != nil {
		return nil, fmt.Errorf("map of a disk: %w", errors.Join(err, format.ErrCorrupt))
	}
	return &m, nil
}

// check says what is wrong with a map.
func check(m *diskmap.Map) error {
	if m.Size < 0 || m.Size > format.MaxSize || m.Size%format.SectorSize != 0 {
		return fmt.Errorf("a disk of %d bytes", m.Size)
	}
	for _, f := range m.Files {
		if f.Size < 0 || !filepath.IsLocal(string(f.Path)) {
			return fmt.Errorf("%q, %d bytes, can be no file of a tree", f.Path, f.Size)
		}
	}
	end := int64(0)
	for _, e := range m.Extents {
		switch {
		case e.Start < end || e.Length <= 0 || e.Length > m.Size-e.Start:
			return fmt.Errorf("an extent of %d bytes at byte %d, after one that ends at byte %d of %d", e.Length, e.Start, end, m.Size)
		case e.File < 0 || e.File >= len(m.Files) || e.Offset < 0:
			return fmt.Errorf("the extent at byte %d holds byte %d of file %d of %d", e.Start, e.Offset, e.File, len(m.Files))
		}
		end = e.End()
	}
	return nil
}

// read reads the map in dir.
func read(dir string) (*diskmap.Map, error) {
	data, err := os.ReadFile(filepath.Join(dir, diskmap.MapFile))
	if err != nil {
		return nil, fmt.Errorf("the disk's map: %w", err)
	}
	return parse(data)
}
