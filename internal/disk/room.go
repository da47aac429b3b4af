package disk

import (
	"context"
	"fmt"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/hostdir"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// content is what a file system shall hold.
type content struct {
	// system is the file system, all but its size.
	system  ext4.FileSystem
	entries []ext4.Entry
	// need is what they take, by what they hold and not by what they take where
	// they lie: the same tree gives the same sum on every host. A file with several
	// names counts once; a sparse file counts with all its holes.
	need ext4.Usage
}

// contents returns what each partition shall hold as far as the configuration
// says it, by partition; nothing where there is no file system.
func (c *Config) contents() []content {
	all := make([]content, len(c.Partitions))
	for i, p := range c.Partitions {
		if p.FileSystem == nil {
			continue
		}
		ids := c.Identifiers.FileSystems[p.FileSystem.MountPoint]
		all[i].system = ext4.FileSystem{
			UUID: ids.UUID, HashSeed: ids.HashSeed, Label: p.FileSystem.Label, Features: c.Features, Bare: p.Role == Data,
			Classes: fileSystemClasses(),
		}
	}
	return all
}

// measure lists the trees, and returns what they hold and take, by partition.
func (c *Config) measure(ctx context.Context) ([]content, error) {
	all := c.contents()
	hidden, err := c.whiteouts()
	if err != nil {
		return nil, err
	}
	for i, p := range c.Partitions {
		if p.FileSystem == nil {
			continue
		}
		if err := all[i].measure(ctx, p.FileSystem, hidden.on(p.FileSystem.MountPoint)); err != nil {
			return nil, fmt.Errorf("measure the tree of %s: %w", p.FileSystem.MountPoint, err)
		}
	}
	if err := c.group(all); err != nil {
		return nil, err
	}
	return all, nil
}

func (c *content) measure(ctx context.Context, f *FileSystem, hidden []ext4.Entry) (err error) {
	if c.entries, err = hostdir.Entries(ctx, f.Tree); err != nil {
		return err
	}
	c.entries = join(c.entries, hidden)
	classify(f.MountPoint, c.entries)
	c.need, err = c.system.Need(c.entries)
	return err
}

// fits reports whether a file system of a given size holds the content and
// leaves headroom free for everyone: the share that ext4 keeps for root is none.
func (c *content) fits(fileSystem, headroom size.Bytes) bool {
	c.system.Size = fileSystem
	have, err := c.system.Capacity()
	if err != nil {
		return false
	}
	if headroom > 0 {
		have.Data -= fileSystem / ext4.ReservedShare
	}
	return c.need.Data+headroom <= have.Data && c.need.Inodes <= have.Inodes
}

// leastFileSystem returns the size of the smallest file system that holds the
// content and leaves headroom free.
func (c *content) leastFileSystem(headroom size.Bytes) size.Bytes {
	least := max(MinFileSystem, (c.need.Data + headroom).AlignUp(Alignment))
	c.system.Size = least
	if _, err := c.system.Capacity(); err != nil {
		return least // no size will do: Validate says why
	}
	for !c.fits(least, headroom) {
		least += Alignment
	}
	return least
}

// checkRoom returns an error that says how large the disk, or the file system,
// must be at least when the tree does not fit.
func (c *Config) checkRoom(p Partition, content *content, have size.Bytes) error {
	need := content.need
	if content.fits(have, 0) {
		return nil
	}
	wanted := fmt.Sprintf("the file system %s needs %v for %d files", p.FileSystem.MountPoint, need.Data.AlignUp(size.MiB), need.Inodes)
	least := content.leastFileSystem(0)
	if p.Role == Data {
		return fault.New(fault.BadSpec, fmt.Sprintf("set the size of %s in spec.disk.fileSystems to %v or more, or to content", p.FileSystem.MountPoint, least),
			"%s; it has %v", wanted, have)
	}
	disk := (c.Size + least - have).AlignUp(64 * size.MiB)
	return fault.New(fault.BadSpec, fmt.Sprintf("set spec.disk.size to %v or more, or to content", disk),
		"%s; spec.disk.size is %v, which leaves %v for it", wanted, c.Size, have)
}
