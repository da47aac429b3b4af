// Package volume is what the readers of file systems (ext4, fat) offer and
// what the view of an image (imagefs) is put together from.
package volume

import (
	"io"
	"io/fs"
	"time"
)

// Stat is what a file system knows about a file.
type Stat struct {
	// Mode has the type and the permissions, set-user-ID and sticky bits included.
	Mode fs.FileMode
	// Size is in bytes; of a symbolic link it is the length of its target.
	Size     int64
	UID, GID uint32
	// Links counts the names of the file.
	Links   uint32
	ModTime time.Time
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
	// Inode tells files of one volume apart; 0 where the volume has no such number.
	Inode uint64
}

// Extent is a piece of a file that lies in one piece on its volume, in bytes.
type Extent struct {
	// Logical is where in the file it begins, Physical where on the volume.
	Logical, Physical, Length int64
}

// MaxExtents bounds the extents that are listed of one file.
const MaxExtents = 1 << 20

// Append adds a piece to a list of extents, or to the last one if it follows
// that both in the file and on the volume.
func Append(extents []Extent, e Extent) []Extent {
	if len(extents) > 0 {
		last := &extents[len(extents)-1]
		if last.Logical+last.Length == e.Logical && last.Physical+last.Length == e.Physical {
			last.Length += e.Length
			return extents
		}
	}
	return append(extents, e)
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	// Open returns the file that the entry names; links are not followed.
	Open func() (Node, error)
}

// Node is a file of a volume. All methods may read the volume, and all return
// an error for what a hostile or damaged volume says.
type Node interface {
	Stat() Stat
	// Entries lists a directory without "." and "..".
	Entries() ([]Entry, error)
	// Target is where a symbolic link points.
	Target() (string, error)
	// Content is what a regular file holds: Stat().Size bytes.
	Content() (io.ReaderAt, error)
	// Extents lists where a file's or a directory's content lies, in the order of
	// the content, in whole units of allocation; holes, and what lies within the
	// file's own record, are left out.
	Extents() ([]Extent, error)
	// Xattrs maps full names (security.capability) to values.
	Xattrs() (map[string]string, error)
}

// Volume is a file system that can be read.
type Volume interface {
	Root() (Node, error)
	// Kind is the name of the file system as fstab has it: ext4, vfat.
	Kind() string
	// UUID is the identifier that fstab's UUID= means, as blkid prints it.
	UUID() string
	// Label is the volume's name.
	Label() string
}
