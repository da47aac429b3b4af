package ext4

import (
	"fmt"
	"io"
)

// Image is a file system as a map from its extents to what they hold: metadata,
// which is in memory, and the content of files. All else is zero.
type Image struct {
	size     int64
	metadata []piece
	files    []FileExtent
}

// piece is metadata at an offset, in bytes. One that ends within a block is
// followed by zeros.
type piece struct {
	start int64
	data  []byte
}

// FileExtent is a range of the file system that holds a part of a file. All of it
// is in bytes, and whole blocks.
type FileExtent struct {
	// Start is where the range begins, Offset what of the file is there. Behind the
	// file's end there are zeros.
	Start, Offset, Length int64
	// Entry is the file; it has Content.
	Entry *Entry
}

// put adds metadata at a block. The data may not change afterwards.
func (i *Image) put(block uint64, data []byte) {
	if len(data) > 0 {
		i.metadata = append(i.metadata, piece{int64(block) * int64(blockSize), data})
	}
}

// putObject adds the content of an object that is in memory.
func (i *Image) putObject(o *object, data []byte) {
	for _, e := range o.extents {
		from := min(int(e.logical)*blockSize, len(data))
		i.put(e.physical, data[from:min(from+int(e.length)*blockSize, len(data))])
	}
}

// putFile adds the content of a file.
func (i *Image) putFile(o *object) {
	for _, e := range o.extents {
		i.files = append(i.files, FileExtent{
			Start: int64(e.physical) * int64(blockSize), Offset: int64(e.logical) * int64(blockSize),
			Length: int64(e.length) * int64(blockSize), Entry: o.node.Entry,
		})
	}
}

// Size is the file system's, in bytes.
func (i *Image) Size() int64 { return i.size }

// Files are the ranges that hold what is in files, in no order.
func (i *Image) Files() []FileExtent { return i.files }

// WriteMetadata writes all but Files into a file that reads as zeros, from offset on.
func (i *Image) WriteMetadata(w io.WriterAt, offset int64) error {
	for _, p := range i.metadata {
		if _, err := w.WriteAt(p.data, offset+p.start); err != nil {
			return fmt.Errorf("ext4: %w", err)
		}
	}
	return nil
}
