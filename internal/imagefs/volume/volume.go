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
	// Inode tells files of one volume apart; 0 where the volume has no such number.
	Inode uint64
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
