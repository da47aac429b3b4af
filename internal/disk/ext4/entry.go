package ext4

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Entry is one name of a file system.
type Entry struct {
	// Path is clean and relative to the root directory, which is ".".
	Path string
	// Mode is the type and the permissions, set-user-ID, set-group-ID and sticky
	// bits included.
	Mode     fs.FileMode
	UID, GID uint32
	// ModTime becomes the time of access and of change too; the epoch if it is
	// newer.
	ModTime time.Time
	// Xattrs are by full name, with the values that the system calls take.
	Xattrs map[string]string
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
	// Target is where a symbolic link points.
	Target string
	// Link is the path of another entry, for a further name of the same file; all
	// else but Path is ignored.
	Link string
	// Content is what a regular file holds; nil for an empty one.
	Content Content
	// Class is an index of FileSystem.Classes. Names of one file have the class of
	// the entry without Link.
	Class int
	// Group names files of a class that change together, such as those of a
	// package: they lie together. What has none lies by its path. A directory of a
	// group gets names with that group's files only.
	Group string
}

// Content is what a file holds.
type Content interface {
	// Size is in bytes.
	Size() int64
	// Open opens it for reading; it must have at least Size bytes then.
	Open() (ReadAtCloser, error)
}

// ReadAtCloser is an open file.
type ReadAtCloser interface {
	io.ReaderAt
	io.Closer
}

// Sparse is Content with holes: ranges that are not allocated and read as zeros.
type Sparse interface {
	Content
	// Data returns the ranges that are allocated, ascending and without overlap;
	// they are rounded outward to whole blocks.
	Data() []Range
}

// Range is a range of a file, in bytes.
type Range struct{ Offset, Length int64 }

const (
	rootPath      = "."
	lostAndFound  = "lost+found"
	maxName       = 255   // EXT4_NAME_LEN (directory.rst)
	maxLinks      = 65000 // EXT4_LINK_MAX (inodes.rst, i_links_count)
	maxTarget     = blockSize - 1
	maxFileBlocks = 1<<32 - 1 // ee_block has 32 bits (ifork.rst)
)

// check says what is wrong with an entry by itself.
func (e *Entry) check() error {
	name := path.Base(e.Path)
	switch {
	case e.Path == "" || e.Path != path.Clean(e.Path) || strings.HasPrefix(e.Path, "/") || e.Path == ".." || strings.HasPrefix(e.Path, "../"):
		return fmt.Errorf("%q is not a clean relative path", e.Path)
	case len(name) > maxName || strings.ContainsRune(name, 0):
		return fmt.Errorf("%.300q: the name has more than %d bytes or a zero byte", e.Path, maxName)
	case e.Link != "":
		return nil
	}
	switch e.Mode.Type() {
	case fs.ModeDir, fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	case fs.ModeSymlink:
		if e.Target == "" || len(e.Target) > maxTarget {
			return fmt.Errorf("%s: a symbolic link's target has 1 to %d bytes", e.Path, maxTarget)
		}
	case 0:
		if e.Content != nil && (e.Content.Size() < 0 || e.Content.Size() > maxFileBlocks*int64(blockSize)) {
			return fmt.Errorf("%s: a file of %d bytes", e.Path, e.Content.Size())
		}
	default:
		return fmt.Errorf("%s: files of the type %v do not exist on ext4", e.Path, e.Mode.Type())
	}
	return nil
}

// size is what i_size says of all but directories.
func (e *Entry) size() int64 {
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		return int64(len(e.Target))
	case e.Mode.IsRegular() && e.Content != nil:
		return e.Content.Size()
	}
	return 0
}
