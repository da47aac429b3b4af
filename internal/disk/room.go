package disk

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// usage is what a tree takes in a file system, or what one has to give.
type usage struct {
	data   size.Bytes // in whole blocks
	inodes int64
}

// measure returns what the trees take, by partition; nothing where there is no
// file system.
func (c *Config) measure() ([]usage, error) {
	needs := make([]usage, len(c.Partitions))
	for i, p := range c.Partitions {
		if p.FileSystem == nil {
			continue
		}
		need, err := measure(p.FileSystem.Tree)
		if err != nil {
			return nil, fmt.Errorf("measure the tree of %s: %w", p.FileSystem.MountPoint, err)
		}
		needs[i] = need
	}
	return needs, nil
}

// measure adds up a tree, by what it holds and not by what it takes where it
// lies: the same tree gives the same sum on every host. A file with several
// names counts once; a sparse file counts with all its holes, which may
// overestimate.
func measure(tree string) (usage, error) {
	var u usage
	type identity struct{ device, inode uint64 }
	seen := map[identity]bool{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no inode data from this system", path)
		}
		if stat.Nlink > 1 && !d.IsDir() {
			id := identity{stat.Dev, stat.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		u.inodes++
		switch {
		case d.IsDir():
			blocks, err := directoryBlocks(path)
			if err != nil {
				return err
			}
			u.data += blocks
		case info.Mode().IsRegular():
			u.data += size.Bytes(info.Size()).AlignUp(ext4.BlockSize)
		case info.Mode()&fs.ModeSymlink != 0 && info.Size() >= inlineLink:
			u.data += ext4.BlockSize
		}
		return nil
	})
	return u, err
}

// inlineLink is the length from which a symbolic link's target takes a block:
// shorter ones are in the inode.
const inlineLink = 60

// directoryBlocks returns what a directory takes: an entry has 8 bytes and its
// name, in multiples of 4, and lies within one block, which ends with 12 bytes
// of checksum (Linux, Documentation/filesystems/ext4/directory.rst).
func directoryBlocks(path string) (size.Bytes, error) {
	const entry, unit, checksum = 8, 4, 12
	names, err := os.ReadDir(path)
	if err != nil {
		return 0, err
	}
	blocks, used := size.Bytes(1), size.Bytes(2*(entry+unit)) // . and ..
	for _, name := range names {
		length := entry + size.Bytes(len(name.Name())).AlignUp(unit)
		if used+length > ext4.BlockSize-checksum {
			blocks, used = blocks+1, 0
		}
		used += length
	}
	return blocks * ext4.BlockSize, nil
}

// capacity returns what a new file system of a given size has free.
func capacity(fileSystem size.Bytes) usage {
	inodes, overhead := ext4.Overhead(fileSystem)
	return usage{data: fileSystem - overhead, inodes: inodes}
}

// fits reports whether a file system of a given size holds the content and
// leaves headroom free for everyone: the share that ext4 keeps for root is none.
func (u usage) fits(fileSystem, headroom size.Bytes) bool {
	have := capacity(fileSystem)
	if headroom > 0 {
		have.data -= fileSystem / ext4.ReservedShare
	}
	return u.data+headroom <= have.data && u.inodes <= have.inodes
}

// leastFileSystem returns the size of the smallest file system that holds the
// content and leaves headroom free.
func (u usage) leastFileSystem(headroom size.Bytes) size.Bytes {
	least := max(MinFileSystem, (u.data + headroom).AlignUp(Alignment))
	for !u.fits(least, headroom) {
		least += Alignment
	}
	return least
}

// checkRoom returns an error that says how large the disk, or the file system,
// must be at least when the tree does not fit.
func (c *Config) checkRoom(p Partition, need usage, have size.Bytes) error {
	if need.fits(have, 0) {
		return nil
	}
	content := fmt.Sprintf("the file system %s needs %v for %d files", p.FileSystem.MountPoint, need.data.AlignUp(size.MiB), need.inodes)
	least := need.leastFileSystem(0)
	if p.Role == Data {
		return fault.New(fault.BadSpec, fmt.Sprintf("set the size of %s in spec.disk.fileSystems to %v or more, or to content", p.FileSystem.MountPoint, least),
			"%s; it has %v", content, have)
	}
	disk := (c.Size + least - have).AlignUp(64 * size.MiB)
	return fault.New(fault.BadSpec, fmt.Sprintf("set spec.disk.size to %v or more, or to content", disk),
		"%s; spec.disk.size is %v, which leaves %v for it", content, c.Size, have)
}
