//go:build linux

// Package hostdir lists a directory of the host as the entries of a file system.
//
// What comes in is a directory that nobody changes meanwhile; what goes out are ext4.Entry: types, modes, owners,
// modification times, extended attributes, device numbers, links and, to be opened when it is read, content. Nothing else
// of the host's file system is taken: no other times, no link counts, nothing of how things lie there or of their order.
package hostdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
)

// identity tells the files of a host apart.
type identity struct{ device, inode uint64 }

// Entries lists dir, each directory before what is in it. Names of one file
// within dir are links of the first of them.
func Entries(ctx context.Context, dir string) ([]ext4.Entry, error) {
	var entries []ext4.Entry
	first := map[identity]string{}
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		relative, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no inode data from this system", full)
		}
		e := ext4.Entry{
			Path: filepath.ToSlash(relative), Mode: info.Mode(), UID: stat.Uid, GID: stat.Gid, ModTime: info.ModTime(),
			Major: unix.Major(stat.Rdev), Minor: unix.Minor(stat.Rdev),
		}
		if stat.Nlink > 1 && !d.IsDir() {
			id := identity{stat.Dev, stat.Ino}
			if e.Link = first[id]; e.Link == "" {
				first[id] = e.Path
			}
		}
		if e.Link == "" {
			err = complete(&e, full, info.Size())
		}
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return entries, nil
}

// complete adds what has to be asked for by itself.
func complete(e *ext4.Entry, full string, length int64) (err error) {
	switch {
	case e.Mode.IsRegular() && length > 0:
		e.Content = file{full, length}
	case e.Mode.Type() == fs.ModeSymlink:
		if e.Target, err = os.Readlink(full); err != nil {
			return err
		}
	}
	e.Xattrs, err = xattrs(full)
	return err
}

// file is the content of a file of the host.
type file struct {
	path string
	size int64
}

// Size implements ext4.Content.
func (f file) Size() int64 { return f.size }

// Open implements ext4.Content.
func (f file) Open() (ext4.ReadAtCloser, error) {
	return os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// xattrs returns a file's extended attributes; none where the host's file system
// has no such thing.
func xattrs(full string) (map[string]string, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(full, b) })
	if err != nil || len(names) == 0 {
		return nil, wrapXattr(full, err)
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(full, name, b) })
		if err != nil {
			return nil, wrapXattr(full, err)
		}
		all[name] = string(value)
	}
	return all, nil
}

func wrapXattr(full string, err error) error {
	if err == nil || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return fmt.Errorf("extended attributes of %s: %w", full, err)
}

// grow calls a system call with a larger buffer until its answer fits.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := call(b)
		if !errors.Is(err, unix.ERANGE) {
			return b[:max(n, 0)], err
		}
	}
}
