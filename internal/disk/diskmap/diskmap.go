// Package diskmap describes a disk as a map from its extents to files of trees.
//
// What an assembly writes is a sparse file of all on the disk that is no file's
// content, and the map of where that content belongs. What comes out again, with the
// trees at hand, is the disk as a format.Source: files are read where they lie, and
// none is copied before an image is written. Memory grows with the number of files.
package diskmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/format"
)

// What an assembly leaves in a directory. The disk is whole when its map is there.
const (
	// MetadataFile is a sparse file of the disk's size, without the content of files.
	MetadataFile = "disk.metadata"
	// MapFile is a Map as JSON.
	MapFile = "disk.map"
)

// Map says where the content of files lies.
type Map struct {
	// Size is the disk's, in bytes.
	Size int64 `json:"size"`
	// Files are those of the trees that have content on the disk.
	Files []File `json:"files"`
	// Extents ascend and do not overlap.
	Extents []Extent `json:"extents"`
}

// File is a file of a tree.
type File struct {
	// Tree is the tree's name, and Path the file's in it: bytes, for a name need not be
	// UTF-8 as JSON's strings are.
	Tree string `json:"tree"`
	Path []byte `json:"path"`
	// Size is that of its content, in bytes.
	Size int64 `json:"size"`
}

// Extent is a range of the disk that holds a part of a file, in bytes. What it has
// behind the file's end is zero.
type Extent struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
	// File is an index of Map.Files, Offset what of that file is at Start.
	File   int   `json:"file"`
	Offset int64 `json:"offset"`
}

func (e Extent) end() int64 { return e.Start + e.Length }

// Write puts the map beside its metadata: into dir.
func (m Map) Write(dir string) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(filepath.Join(dir, MapFile), "", data, 0o644); err != nil {
		return fmt.Errorf("write the disk's map: %w", err)
	}
	return nil
}

// parse reads a map.
func parse(data []byte) (*Map, error) {
	var m Map
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("map of a disk: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("map of a disk: %w", errors.Join(err, format.ErrCorrupt))
	}
	return &m, nil
}

// check says what is wrong with a map.
func (m *Map) check() error {
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
		end = e.end()
	}
	return nil
}

// read reads the map in dir.
func read(dir string) (*Map, error) {
	data, err := os.ReadFile(filepath.Join(dir, MapFile))
	if err != nil {
		return nil, fmt.Errorf("the disk's map: %w", err)
	}
	return parse(data)
}
