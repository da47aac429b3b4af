package disk

import (
	"path"
	"strings"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// class is a set of files that one cause changes: a part of each file system is
// theirs, so that the growth of one class moves no other.
type class struct {
	ext4.Class
	// paths are the files and directories, by absolute path, whose content is the
	// class's: the longest one decides.
	paths []string
	// loose is a class whose files lie by their paths, whichever list has them:
	// they are few.
	loose bool
}

// classes are ordered from what changes least often. Their shares are some three
// times what a node with Kubernetes takes of a disk of 8 GiB; on disks of 16 GiB
// and more the bounds make their places those of every larger disk. The bounds
// of inodes keep the tables small: a table's block that is empty is not written.
var classes = []class{
	{Class: ext4.Class{Name: "operating system", Share: 50, MaxSize: 6 * size.GiB, MaxInodes: 160 << 10},
		paths: []string{"/"}},
	{Class: ext4.Class{Name: "container runtime", Share: 5, MaxSize: 1 * size.GiB, MaxInodes: 8 << 10},
		paths: []string{"/usr/local", "/opt/cni"}},
	{Class: ext4.Class{Name: "container images", Share: 18, MaxSize: 8 * size.GiB, MaxInodes: 64 << 10},
		paths: []string{"/var/lib/containerd"}},
	{Class: ext4.Class{Name: "Kubernetes", Share: 6, MaxSize: 1 * size.GiB, MaxInodes: 4 << 10},
		paths: []string{"/usr/bin/kubeadm", "/usr/bin/kubectl", "/usr/bin/kubelet"}},
	{Class: ext4.Class{Name: "node configuration", Share: 3, MaxSize: 512 * size.MiB, MaxInodes: 8 << 10},
		paths: []string{"/etc", "/var/lib/kubelet", "/var/lib/cloud"}, loose: true},
	{Class: ext4.Class{Name: "customization", Share: 18, MaxInodes: 64 << 10, NearInodes: 8 << 10},
		paths: []string{"/home", "/opt", "/root", "/srv"}},
}

// addedClass has the files of what the spec adds, wherever they are.
var addedClass = len(classes) - 1

// classByPath finds the class of a path by the longest of the classes' paths that
// it is or that it is in.
var classByPath = func() map[string]int {
	byPath := map[string]int{}
	for i, c := range classes {
		for _, p := range c.paths {
			byPath[p] = i
		}
	}
	return byPath
}()

// classOf returns the index of the class that a file of the node belongs to.
func classOf(file string) int {
	for {
		if i, found := classByPath[file]; found {
			return i
		}
		if file == rootDir {
			return 0
		}
		file = path.Dir(file)
	}
}

// classify gives the entries of a file system their classes.
func classify(mountPoint string, entries []ext4.Entry) {
	for i := range entries {
		entries[i].Class = classOf(path.Join(mountPoint, strings.TrimPrefix(entries[i].Path, "./")))
	}
}

// fileSystemClasses returns what the file systems are divided among.
func fileSystemClasses() []ext4.Class {
	all := make([]ext4.Class, len(classes))
	for i, c := range classes {
		all[i] = c.Class
	}
	return all
}
