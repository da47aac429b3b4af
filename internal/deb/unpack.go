package deb

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Unpack writes the files of an uncompressed data.tar under root, with the
// owners, modes and times that it names. Links in the tree are followed as the
// running system would (a merged /usr has /lib -> usr/lib), but never out of
// root: os.Root refuses that, whatever the archive says. A file or link that
// stands in the way is replaced; a directory that is there, or a link to one,
// stays, and a file in its place is an error. What filter leaves out is skipped.
// The times of directories are left to times, which several packages share. entry,
// if it is not nil, sees each entry first, and whether filter leaves it out. By
// changing the header's Name it has the entry written elsewhere, by a hard link's
// Linkname has it linked to what was.
func Unpack(ctx context.Context, root *os.Root, data io.Reader, filter Filter, times *DirectoryTimes, entry func(header *tar.Header, leftOut bool) error) error {
	archive := tar.NewReader(data)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("data.tar: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		leftOut := filter.leavesOut("/"+InTree(header.Name), header.Typeflag)
		if entry != nil {
			if err := entry(header, leftOut); err != nil {
				return fmt.Errorf("data.tar: %s: %w", header.Name, err)
			}
		}
		if leftOut {
			continue
		}
		name := InTree(header.Name)
		if err := unpackEntry(root, name, header, archive); err != nil {
			return fmt.Errorf("data.tar: %s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			if err := times.add(root, name, header.ModTime); err != nil {
				return fmt.Errorf("data.tar: %s: %w", header.Name, err)
			}
		}
	}
	// The compressor's checksum stands behind the last tar block.
	if _, err := io.Copy(io.Discard, data); err != nil {
		return fmt.Errorf("data.tar: %w", err)
	}
	return nil
}

// InTree returns the path below a tree's root of a name in an archive; "." is the root.
func InTree(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

func unpackEntry(root *os.Root, name string, header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeDir {
		return unpackDir(root, name, header)
	}
	if header.Typeflag == tar.TypeSymlink && stays(root, name, header.Linkname) {
		return nil
	}
	if err := makeRoom(root, name); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, content); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := Symlink(root, header.Linkname, name, header.ModTime); err != nil {
			return err
		}
		return root.Lchown(name, header.Uid, header.Gid)
	case tar.TypeLink:
		return root.Link(InTree(header.Linkname), name)
	default:
		return fmt.Errorf("tar entry type %q is not one that packages hold", header.Typeflag)
	}
	// The owner first: chown clears the set-user-ID bit.
	if err := root.Lchown(name, header.Uid, header.Gid); err != nil {
		return err
	}
	if err := root.Chmod(name, header.FileInfo().Mode()); err != nil {
		return err
	}
	return root.Chtimes(name, header.ModTime, header.ModTime)
}

func unpackDir(root *os.Root, name string, header *tar.Header) error {
	if err := root.MkdirAll(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := root.Stat(name); err != nil || !info.IsDir() {
		return fmt.Errorf("a file stands where the package has a directory (%w)", errors.Join(err, fs.ErrExist))
	}
	if name == "." {
		return nil
	}
	if err := root.Chown(name, header.Uid, header.Gid); err != nil {
		return err
	}
	return root.Chmod(name, header.FileInfo().Mode())
}

// stays says whether what is at name outlasts a symbolic link to target: the
// same link, which another package may be following right now, or a directory,
// as with dpkg.
func stays(root *os.Root, name, target string) bool {
	if have, err := root.Readlink(name); err == nil {
		return have == target
	}
	info, err := root.Lstat(name)
	return err == nil && info.IsDir()
}

// makeRoom makes name's parents and removes a file or link that is at name.
func makeRoom(root *os.Root, name string) error {
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	switch info, err := root.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("a directory stands where the package has a file (%w)", fs.ErrExist)
	}
	return root.Remove(name)
}
