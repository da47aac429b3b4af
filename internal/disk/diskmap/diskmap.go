// Package diskmap describes a disk as a map from its extents to files of trees.
//
// What an assembly writes is a sparse file of all on the disk that is no file's
// content, and the map of where that content belongs. With the trees at hand, package
// mapped reads both as the disk.
package diskmap

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/atomicfile"
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

// End is the first byte behind the extent.
func (e Extent) End() int64 { return e.Start + e.Length }

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
