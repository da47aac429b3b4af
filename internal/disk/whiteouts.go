package disk

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/whiteout"
)

// whiteouts are those that the trees could not hold.
type whiteouts struct {
	list    whiteout.List
	mounted []string // the mount points of all file systems
}

// whiteouts reads what the configuration names.
func (c *Config) whiteouts() (w whiteouts, err error) {
	if c.Whiteouts == "" {
		return w, nil
	}
	for _, p := range c.Partitions {
		if p.FileSystem != nil {
			w.mounted = append(w.mounted, p.FileSystem.MountPoint)
		}
	}
	w.list, err = whiteout.Read(c.Whiteouts)
	return w, err
}

// on returns the entries of one file system.
func (w whiteouts) on(mountPoint string) (entries []ext4.Entry) {
	for _, p := range w.list.On(mountPoint, w.mounted) {
		entries = append(entries, ext4.Entry{Path: p, Mode: fs.ModeDevice | fs.ModeCharDevice, ModTime: w.list.ModTime})
	}
	return entries
}

// join adds entries to those of a tree, in the tree's order, where the tree has the
// directory and no file of that name.
func join(entries, more []ext4.Entry) []ext4.Entry {
	if len(more) == 0 {
		return entries
	}
	directory := map[string]bool{} // by path; false for other files
	for _, e := range entries {
		directory[e.Path] = e.Mode.IsDir()
	}
	for _, e := range more {
		if _, taken := directory[e.Path]; !taken && directory[path.Dir(e.Path)] {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b ext4.Entry) int { return strings.Compare(orderOf(a), orderOf(b)) })
	return entries
}

// orderOf sorts as a walk through a tree does: what is in a directory comes before
// the names behind it.
func orderOf(e ext4.Entry) string {
	if e.Path == "." {
		return ""
	}
	return strings.ReplaceAll(e.Path, "/", "\x00")
}
