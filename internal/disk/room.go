package disk

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// usage is what a tree takes in a file system.
type usage struct {
	data   size.Bytes // in whole blocks
	inodes int64
}

// measure adds up a tree. A file with several names counts once; a sparse file
// counts with all its holes, which may overestimate.
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
			u.data += size.Bytes(max(info.Size(), 1)).AlignUp(ext4.BlockSize)
		case info.Mode().IsRegular():
			u.data += size.Bytes(info.Size()).AlignUp(ext4.BlockSize)
		case info.Mode()&fs.ModeSymlink != 0 && info.Size() >= inlineLink:
			u.data += ext4.BlockSize
		}
		return nil
	})
	if err != nil {
		return usage{}, fmt.Errorf("measure the tree: %w", err)
	}
	return u, nil
}

// inlineLink is the length from which a symbolic link's target takes a block:
// shorter ones are in the inode.
const inlineLink = 60

// capacity estimates what a file system of a given size can take: what the
// inode tables, the journal and the fixed metadata leave.
func capacity(fileSystem size.Bytes) usage {
	inodes := int64(fileSystem / ext4.BytesPerInode)
	fixed := size.Bytes(inodes)*ext4.InodeSize + fileSystem/1024 + 2*size.MiB + journal(fileSystem)
	return usage{data: fileSystem - fixed, inodes: inodes - 11}
}

// journal returns the size that mke2fs gives the journal of a file system
// (ext2fs_default_journal_size, for blocks of 4 KiB).
func journal(fileSystem size.Bytes) size.Bytes {
	for _, step := range []struct{ below, journal size.Bytes }{
		{8 * size.MiB, 0}, {128 * size.MiB, 4 * size.MiB}, {1 * size.GiB, 16 * size.MiB},
		{2 * size.GiB, 32 * size.MiB}, {16 * size.GiB, 64 * size.MiB}, {32 * size.GiB, 128 * size.MiB},
		{64 * size.GiB, 256 * size.MiB}, {128 * size.GiB, 512 * size.MiB},
	} {
		if fileSystem < step.below {
			return step.journal
		}
	}
	return size.GiB
}

// checkRoom returns an error that says how large the disk must be at least when
// the tree does not fit the root partition.
func (c *Config) checkRoom(need usage, root size.Bytes) error {
	fits := func(fileSystem size.Bytes) bool {
		have := capacity(fileSystem)
		return need.data <= have.data && need.inodes <= have.inodes
	}
	if fits(root) {
		return nil
	}
	enough := root
	for !fits(enough) {
		enough = (enough + enough/64).AlignUp(Alignment)
	}
	least := (c.Size + enough - root).AlignUp(64 * size.MiB)
	return fault.New(fault.BadSpec, fmt.Sprintf("set disk.size to %v or more", least),
		"the root file system needs %v for %d files; disk.size is %v, which leaves %v for it",
		need.data.AlignUp(size.MiB), need.inodes, c.Size, root)
}
