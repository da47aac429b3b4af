//go:build unix

package deb

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DirectoryTimes collects what time each directory of a tree gets, while packages are unpacked into it side by side: the
// newest that one names for it, whatever their order. A directory that is reached through a link is the same directory.
type DirectoryTimes struct {
	mu    sync.Mutex
	times map[fileID]directoryTime
}

// fileID tells the files of a tree apart.
type fileID struct{ device, inode uint64 }

type directoryTime struct {
	name string
	time time.Time
}

// add notes a time that a package names.
func (d *DirectoryTimes) add(root *os.Root, name string, named time.Time) error {
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: the system does not say which file it is", name)
	}
	id := fileID{uint64(stat.Dev), stat.Ino}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = map[fileID]directoryTime{}
	}
	if known, seen := d.times[id]; !seen || named.After(known.time) {
		d.times[id] = directoryTime{name, named}
	}
	return nil
}

// Set gives every directory of the tree its time; one that no package names
// gets the other time. Call it when nothing is written to the tree any more.
func (d *DirectoryTimes) Set(root *os.Root, other time.Time) error {
	var walk func(name string) error
	walk = func(name string) error {
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return nil
		}
		dir, err := root.Open(name)
		if err != nil {
			return err
		}
		entries, err := dir.ReadDir(-1)
		if err := joinClose(err, dir); err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				if err := walk(path.Join(name, e.Name())); err != nil {
					return err
				}
			}
		}
		when := other
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			if named, known := d.times[fileID{uint64(stat.Dev), stat.Ino}]; known {
				when = named.time
			}
		}
		return root.Chtimes(name, when, when)
	}
	if err := walk("."); err != nil {
		return fmt.Errorf("times of directories: %w", err)
	}
	return nil
}

// joinClose closes a file that was only read.
func joinClose(err error, file *os.File) error { return errors.Join(err, file.Close()) }

// setLinkTime gives a symbolic link itself a time.
func setLinkTime(root *os.Root, name string, when time.Time) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	stamp := unix.NsecToTimespec(when.UnixNano())
	err = unix.UtimesNanoAt(int(dir.Fd()), filepath.Base(name), []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	return joinClose(err, dir)
}

// Symlink makes a link with a time.
func Symlink(root *os.Root, target, name string, when time.Time) error {
	if err := root.Symlink(target, name); err != nil {
		return err
	}
	return setLinkTime(root, name, when)
}
