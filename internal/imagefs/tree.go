package imagefs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

const (
	// maxLinks is how many symbolic links one path may lead through, as in Linux.
	maxLinks = 40
	// MaxRead is the largest file that ReadFile reads.
	MaxRead = 16 << 20
)

// ErrTooLarge is the error for a file that is larger than MaxRead.
var ErrTooLarge = errors.New("file is too large")

// Tree is a tree of files, as the node would see it with everything mounted.
// Paths are absolute; symbolic links lead within the tree. It implements fs.FS
// and its companions, whose names have no slash in front. Not safe for
// concurrent use; what Open returns is.
type Tree struct {
	mounts      map[string]mounted // by mount point; "/" is always there
	directories map[string]*directory
}

// mounted is the root of a volume.
type mounted struct {
	node volume.Node
	on   volumeOf
}

// volumeOf is what all files of a volume have in common.
type volumeOf struct {
	fold  bool  // names differ in more than case
	start int64 // where the volume lies on the disk
}

// directory is a directory that has been read.
type directory struct {
	names   []string
	entries map[string]volume.Entry
}

// newTree makes the tree of one volume.
func newTree(v volume.Volume, p Partition) (*Tree, error) {
	root, err := v.Root()
	if err != nil {
		return nil, err
	}
	return &Tree{
		mounts:      map[string]mounted{"/": {root, volumeOn(v, p)}},
		directories: map[string]*directory{},
	}, nil
}

// volumeOn says how a volume on a partition is read.
func volumeOn(v volume.Volume, p Partition) volumeOf {
	return volumeOf{fold: v.Kind() == "vfat", start: p.Start}
}

// place is a file with the path, free of links, that it was found at.
type place struct {
	path string
	node volume.Node
	on   volumeOf
}

// find follows a path. The last component's links are followed if follow is set.
func (t *Tree) find(name string, follow bool) (place, error) {
	root := t.mounts["/"]
	at := place{"/", root.node, root.on}
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			up, err := t.find(path.Dir(at.path), false)
			if err != nil {
				return at, err
			}
			at = up
			continue
		}
		next, err := t.child(at, part)
		if err != nil {
			return at, err
		}
		if next.node.Stat().Mode.Type() == fs.ModeSymlink && (follow || len(todo) > 0) {
			if links++; links > maxLinks {
				return at, fmt.Errorf("%s leads through too many links", name)
			}
			target, err := next.node.Target()
			if err != nil {
				return at, err
			}
			todo = append(strings.Split(target, "/"), todo...)
			if strings.HasPrefix(target, "/") {
				at = place{"/", root.node, root.on}
			}
			continue
		}
		at = next
	}
	return at, nil
}

// child opens one entry of a directory, or what is mounted on it.
func (t *Tree) child(at place, name string) (place, error) {
	if m, ok := t.mounts[path.Join(at.path, name)]; ok {
		return place{path.Join(at.path, name), m.node, m.on}, nil
	}
	d, err := t.read(at)
	if err != nil {
		return at, err
	}
	return t.open(at, d, name)
}

// open opens one entry of a directory that was read.
func (t *Tree) open(at place, d *directory, name string) (place, error) {
	full := path.Join(at.path, name)
	if m, ok := t.mounts[full]; ok {
		return place{full, m.node, m.on}, nil
	}
	if at.on.fold {
		name = strings.ToLower(name)
	}
	entry, ok := d.entries[name]
	if !ok {
		return at, fmt.Errorf("%s: %w", full, fs.ErrNotExist)
	}
	node, err := entry.Open()
	if err != nil {
		return at, fmt.Errorf("%s: %w", full, err)
	}
	return place{full, node, at.on}, nil
}

// read reads a directory once.
func (t *Tree) read(at place) (*directory, error) {
	if d, ok := t.directories[at.path]; ok {
		return d, nil
	}
	d, err := t.readDirectory(at)
	if err != nil {
		return nil, err
	}
	t.directories[at.path] = d
	return d, nil
}

// readDirectory reads a directory and keeps nothing of it.
func (t *Tree) readDirectory(at place) (*directory, error) {
	if !at.node.Stat().Mode.IsDir() {
		return nil, fmt.Errorf("%s is no directory: %w", at.path, fs.ErrNotExist)
	}
	entries, err := at.node.Entries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at.path, err)
	}
	d := &directory{entries: make(map[string]volume.Entry, len(entries))}
	for _, e := range entries {
		if e.Name == "" || strings.ContainsAny(e.Name, "/\x00") {
			return nil, fmt.Errorf("%s: a file is called %q", at.path, e.Name)
		}
		key := e.Name
		if at.on.fold {
			key = strings.ToLower(key)
		}
		if _, double := d.entries[key]; double {
			return nil, fmt.Errorf("%s: two files are called %q", at.path, e.Name)
		}
		d.entries[key] = e
		d.names = append(d.names, e.Name)
	}
	for point := range t.mounts {
		name := path.Base(point)
		if _, there := d.entries[name]; path.Dir(point) == at.path && point != at.path && !there {
			d.names = append(d.names, name)
		}
	}
	slices.Sort(d.names)
	return d, nil
}

// Info is a file's fs.FileInfo, with what fs.FileInfo has no room for.
type Info struct {
	name string
	stat volume.Stat
}

// Name returns the last element of the path.
func (i Info) Name() string { return i.name }

// Size is in bytes.
func (i Info) Size() int64 { return i.stat.Size }

// Mode has type and permissions.
func (i Info) Mode() fs.FileMode { return i.stat.Mode }

// ModTime is the time of the last change of content.
func (i Info) ModTime() time.Time { return i.stat.ModTime }

// IsDir reports whether it is a directory.
func (i Info) IsDir() bool { return i.stat.Mode.IsDir() }

// Sys returns the volume.Stat.
func (i Info) Sys() any { return i.stat }

// UID is the owner.
func (i Info) UID() uint32 { return i.stat.UID }

// GID is the group.
func (i Info) GID() uint32 { return i.stat.GID }

func (p place) info(name string) Info { return Info{name: path.Base(name), stat: p.node.Stat()} }

// Stat describes a file, links followed. A missing file is fs.ErrNotExist.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	p, err := t.find(name, true)
	if err != nil {
		return nil, err
	}
	return p.info(name), nil
}

// Lstat describes a file or the link that stands at its place.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	p, err := t.find(name, false)
	if err != nil {
		return nil, err
	}
	return p.info(name), nil
}

// Owner returns who owns a file, links followed.
func (t *Tree) Owner(name string) (uid, gid uint32, err error) {
	p, err := t.find(name, true)
	if err != nil {
		return 0, 0, err
	}
	s := p.node.Stat()
	return s.UID, s.GID, nil
}

// Exists reports whether the path leads to a file.
func (t *Tree) Exists(name string) bool {
	_, err := t.find(name, true)
	return err == nil
}

// Resolve returns the path, free of links, of the file that name leads to.
func (t *Tree) Resolve(name string) (string, error) {
	p, err := t.find(name, true)
	return p.path, err
}

// ReadLink returns the target of a symbolic link.
func (t *Tree) ReadLink(name string) (string, error) {
	p, err := t.find(name, false)
	if err != nil {
		return "", err
	}
	if p.node.Stat().Mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return p.node.Target()
}

// Xattrs returns a file's extended attributes, links followed.
func (t *Tree) Xattrs(name string) (map[string]string, error) {
	p, err := t.find(name, true)
	if err != nil {
		return nil, err
	}
	return p.node.Xattrs()
}

// Content opens a regular file, links followed, for reading anywhere in it.
func (t *Tree) Content(name string) (*io.SectionReader, error) {
	p, err := t.find(name, true)
	if err != nil {
		return nil, err
	}
	if !p.node.Stat().Mode.IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	content, err := p.node.Content()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return io.NewSectionReader(content, 0, p.node.Stat().Size), nil
}

// ReadFile reads a file of at most MaxRead bytes.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	r, err := t.Content(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > MaxRead {
		return nil, fmt.Errorf("%s: %d bytes: %w", name, r.Size(), ErrTooLarge)
	}
	b := make([]byte, r.Size())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// ReadDir lists a directory, sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := t.find(name, true)
	if err != nil {
		return nil, err
	}
	d, err := t.read(p)
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, 0, len(d.names))
	for _, n := range d.names {
		c, err := t.child(p, n)
		if err != nil {
			return nil, err
		}
		out = append(out, fs.FileInfoToDirEntry(c.info(n)))
	}
	return out, nil
}

// Glob lists the files that match a pattern of path.Match. What cannot be read
// matches nothing.
func (t *Tree) Glob(pattern string) []string {
	names, err := fs.Glob(t, strings.TrimPrefix(pattern, "/"))
	if err != nil {
		return nil
	}
	for i := range names {
		names[i] = "/" + names[i]
	}
	return names
}

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	p, err := t.find(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := &openFile{info: p.info(name)}
	if f.info.IsDir() {
		if f.entries, err = t.ReadDir(name); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return f, nil
	}
	if f.SectionReader, err = t.Content(name); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

// openFile is an open file or directory as io/fs wants it.
type openFile struct {
	*io.SectionReader // nil for a directory
	info              Info
	entries           []fs.DirEntry
}

// Stat implements fs.File.
func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (f *openFile) Close() error { return nil }

// Read implements fs.File.
func (f *openFile) Read(p []byte) (int, error) {
	if f.SectionReader == nil {
		return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: errors.New("is a directory")}
	}
	return f.SectionReader.Read(p)
}

// ReadDir implements fs.ReadDirFile.
func (f *openFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		out := f.entries
		f.entries = nil
		return out, nil
	}
	if len(f.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.entries))
	out := f.entries[:n:n]
	f.entries = f.entries[n:]
	return out, nil
}
