// Package mapped reads a disk that is a map (package diskmap) from the trees which
// have its files.
//
// What comes in is the map, the metadata and the directories of the trees; what goes
// out is a format.Source: files are read where they lie, and none is copied before an
// image is written. Memory grows with the number of files.
package mapped

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"nodesmith.dev/nodesmith/internal/disk/diskmap"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/raw"
)

// Disk is a disk that is read from trees. It is a format.Source, safe for concurrent
// use.
type Disk struct {
	*diskmap.Map
	metadata *raw.Disk
	file     *os.File
	trees    map[string]*tree
}

// Open opens the disk that an assembly left in dir. trees are the directories of its
// trees, by name; nobody may change what is in them until the disk is closed.
func Open(dir string, trees map[string]string) (_ *Disk, err error) {
	m, err := read(dir)
	if err != nil {
		return nil, err
	}
	d := &Disk{Map: m, trees: map[string]*tree{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.file, err = os.Open(filepath.Join(dir, diskmap.MetadataFile)); err != nil {
		return nil, fmt.Errorf("the disk's metadata: %w", err)
	}
	if d.metadata, err = raw.Open(d.file, m.Size); err != nil {
		return nil, err
	}
	for name, dir := range trees {
		tree, err := openTree(dir)
		if err != nil {
			return nil, fmt.Errorf("the disk's tree %s: %w", name, err)
		}
		d.trees[name] = tree
	}
	for _, f := range m.Files {
		if d.trees[f.Tree] == nil {
			return nil, fmt.Errorf("the disk has files of a tree %q, which is not there", f.Tree)
		}
	}
	return d, nil
}

// Close closes the metadata and the trees.
func (d *Disk) Close() error {
	var failures []error
	if d.file != nil {
		failures = append(failures, d.file.Close())
	}
	for _, tree := range d.trees {
		failures = append(failures, tree.close())
	}
	return errors.Join(failures...)
}

// Size implements format.Source.
func (d *Disk) Size() int64 { return d.Map.Size }

// next returns the index of the first extent that ends behind an offset.
func (d *Disk) next(offset int64) int {
	index, _ := slices.BinarySearchFunc(d.Extents, offset, func(e diskmap.Extent, offset int64) int {
		if e.End() <= offset {
			return -1
		}
		return 1
	})
	return index
}

// NextData implements format.Source. Files that lie close together are one range.
func (d *Disk) NextData(offset int64) (format.Extent, error) {
	metadata, err := d.metadata.NextData(offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return format.Extent{}, err
	}
	index := d.next(offset)
	if index == len(d.Extents) {
		return metadata, err
	}
	start, end := max(d.Extents[index].Start, offset), d.Extents[index].End()
	if err == nil && metadata.Offset < start {
		return metadata, nil
	}
	for _, e := range d.Extents[index+1:] {
		if e.Start-end >= format.BlockSize {
			break
		}
		end = e.End()
	}
	return format.Extent{Offset: start, Length: end - start}, nil
}

// ReadAt implements io.ReaderAt. It opens each file that it reads, and closes it
// again.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	end := min(offset+int64(len(p)), d.Size())
	at := offset
	for index := d.next(offset); index < len(d.Extents) && d.Extents[index].Start < end; index++ {
		e := d.Extents[index]
		from, to := max(e.Start, at), min(e.End(), end)
		// Only what is between files: all else is a hole there, which the kernel would
		// keep pages of zeros for.
		if n, err := d.metadata.ReadAt(p[at-offset:from-offset], at); err != nil {
			return int(at-offset) + n, err
		}
		if err := d.readFile(p[from-offset:to-offset], d.Files[e.File], e.Offset+from-e.Start); err != nil {
			return int(from - offset), err
		}
		at = to
	}
	n, err := d.metadata.ReadAt(p[at-offset:], at)
	return int(at-offset) + n, err
}

// readFile fills p from an offset of a file, and with zeros behind its end.
func (d *Disk) readFile(p []byte, f diskmap.File, offset int64) (err error) {
	want := int(min(max(f.Size-offset, 0), int64(len(p))))
	clear(p[want:])
	if want == 0 {
		return nil
	}
	content, err := d.trees[f.Tree].open(string(f.Path))
	if err != nil {
		return fmt.Errorf("the tree %s: %w", f.Tree, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if n, err := content.ReadAt(p[:want], offset); n < want {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("the tree %s: %s: read %d bytes at %d: %w", f.Tree, f.Path, want, offset, err)
	}
	return nil
}
