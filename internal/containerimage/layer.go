//go:build linux

package containerimage

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one tar entry of a layer: its header, and the files or the text
// that its content comes from.
type entry struct {
	header  tar.Header
	sources []string
	content string
}

// fileSystem is a layer before it is written: entries by their path without
// the leading slash.
type fileSystem map[string]*entry

// collect reads the layer's inputs, all but the files' contents.
func collect(l Layer) (fileSystem, error) {
	fsys := fileSystem{}
	for _, t := range l.Trees {
		if err := fsys.addTree(t); err != nil {
			return nil, fmt.Errorf("tree %s: %w", t.From, err)
		}
	}
	for _, d := range l.Directories {
		if err := fsys.add(d.Path, &entry{header: tar.Header{
			Typeflag: tar.TypeDir, Mode: int64(d.Mode), Uid: d.UID, Gid: d.GID,
		}}); err != nil {
			return nil, err
		}
	}
	for _, f := range l.Files {
		e, err := fileEntry(f)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", f.To, err)
		}
		if err := fsys.add(f.To, e); err != nil {
			return nil, err
		}
	}
	for _, s := range l.Links {
		if _, there := fsys[s.Path[1:]]; there && s.IfAbsent {
			continue
		}
		if err := fsys.add(s.Path, &entry{header: tar.Header{
			Typeflag: tar.TypeSymlink, Linkname: s.Target, Mode: 0o777,
		}}); err != nil {
			return nil, err
		}
	}
	for _, p := range l.Programs {
		if err := fsys.checkProgram(p); err != nil {
			return nil, err
		}
	}
	return fsys, nil
}

// add places an entry and makes the parents it needs. A parent that is a
// symbolic link is an error and not followed: whoever wrote the layer meant
// some real directory, and the tar format would put the file elsewhere.
func (fsys fileSystem) add(at string, e *entry) error {
	name := strings.TrimPrefix(path.Clean(at), "/")
	if name == "" {
		return fmt.Errorf("%q: the root directory itself can't be an entry", at)
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		parent, there := fsys[dir]
		if !there {
			fsys[dir] = &entry{header: tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}}
			continue
		}
		if parent.header.Typeflag != tar.TypeDir {
			return fmt.Errorf("%s: its parent /%s is not a directory (symbolic links to directories are not followed)", at, dir)
		}
	}
	if old, there := fsys[name]; there && old.header.Typeflag == tar.TypeDir && e.header.Typeflag != tar.TypeDir {
		return fmt.Errorf("%s is a directory in another input of the layer", at)
	}
	e.header.Name = name
	if e.header.Typeflag == tar.TypeDir {
		e.header.Name += "/"
	}
	fsys[name] = e
	return nil
}

// fileEntry finds the sources of a file and sums up their sizes.
func fileEntry(f File) (*entry, error) {
	e := &entry{content: f.Content, header: tar.Header{
		Typeflag: tar.TypeReg, Mode: int64(f.Mode), Uid: f.UID, Gid: f.GID, Size: int64(len(f.Content)),
	}}
	for name, value := range f.Xattrs {
		e.setXattr(name, value)
	}
	if f.From == "" {
		return e, nil
	}
	matches, err := filepath.Glob(f.From) // sorted
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", f.From, err)
	}
	if len(matches) == 0 {
		return nil, fmt.Errorf("%s: %w", f.From, os.ErrNotExist)
	}
	for _, m := range matches {
		info, err := os.Stat(m)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", m)
		}
		e.header.Size += info.Size()
	}
	e.sources = matches
	return e, nil
}

// setXattr records an extended attribute in the way that GNU tar, star and
// containerd read it.
func (e *entry) setXattr(name string, value []byte) {
	if e.header.PAXRecords == nil {
		e.header.PAXRecords = map[string]string{}
	}
	e.header.PAXRecords["SCHILY.xattr."+name] = string(value)
}

// inode identifies a file that may have several names.
type inode struct{ dev, ino uint64 }

// addTree adds everything below a directory.
func (fsys fileSystem) addTree(t Tree) error {
	linked := map[inode]string{}
	return filepath.WalkDir(t.From, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.From, name)
		if err != nil {
			return err
		}
		at := path.Join(t.To, filepath.ToSlash(rel))
		if at == "/" {
			return nil
		}
		e, err := treeEntry(name)
		if err != nil || e == nil {
			return err
		}
		if e.header.Typeflag == tar.TypeReg {
			// The walk is in lexical order, so the first name is the same in
			// every copy of the tree.
			if first, again, err := firstName(linked, name, at); err != nil {
				return err
			} else if again {
				e.header.Typeflag, e.header.Linkname, e.header.Size = tar.TypeLink, first, 0
				e.sources, e.header.PAXRecords = nil, nil
			}
		}
		return fsys.add(at, e)
	})
}

// firstName says whether the file was seen under another name, and which.
func firstName(linked map[inode]string, name, at string) (first string, again bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return "", false, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	if st.Nlink < 2 {
		return "", false, nil
	}
	id := inode{st.Dev, st.Ino}
	if first, again = linked[id]; !again {
		linked[id] = strings.TrimPrefix(at, "/")
	}
	return first, again, nil
}

// treeEntry reads one file's metadata. It returns nil for a socket, which has
// no meaning without the process that made it.
func treeEntry(name string) (*entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	e := &entry{header: tar.Header{Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid)}}
	h := &e.header
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFREG:
		h.Typeflag, h.Size, e.sources = tar.TypeReg, st.Size, []string{name}
	case unix.S_IFLNK:
		target, err := os.Readlink(name)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return e, nil
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return e, e.readXattrs(name)
}

// readXattrs records the attributes that belong to a file's content: the
// others (security.selinux, system.posix_acl_*, trusted.*) describe the machine
// that the tree lies on.
func (e *entry) readXattrs(name string) error {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX of linux/limits.h
	n, err := unix.Llistxattr(name, list)
	if err == unix.ENOTSUP || err == unix.EPERM {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if attr != "security.capability" && !strings.HasPrefix(attr, "user.") {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		m, err := unix.Lgetxattr(name, attr, value)
		if err != nil {
			return &os.PathError{Op: "getxattr " + attr, Path: name, Err: err}
		}
		e.setXattr(attr, value[:m])
	}
	return nil
}

// writeTar writes the entries sorted by path, all with the same time, without
// user and group names: the same entries give the same bytes.
func (fsys fileSystem) writeTar(ctx context.Context, w io.Writer, epoch time.Time) error {
	tw := tar.NewWriter(w)
	buffer := make([]byte, 1<<20)
	for _, name := range slices.Sorted(maps.Keys(fsys)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := fsys[name]
		header := e.header
		header.Format = tar.FormatPAX
		header.ModTime = epoch
		if err := tw.WriteHeader(&header); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		for _, source := range e.sources {
			if err := copyFile(tw, source, buffer); err != nil {
				return fmt.Errorf("/%s: %w", name, err)
			}
		}
	}
	return tw.Close()
}

// copyFile appends a file's content to w.
func copyFile(w io.Writer, name string, buffer []byte) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	// The wrapper hides ReadFrom and WriteTo, which would not use the buffer.
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{file}, buffer)
	return err
}
