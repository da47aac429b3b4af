// Package whiteout brings the whiteouts of container images past build engines.
//
// What comes in is a tree with whiteouts (character devices 0:0), as containerd's
// snapshots of image layers have them; what goes out is the tree without them, and a
// list from which the disk gets them back. An engine holds trees in overlayfs, which
// takes a whiteout in a tree for one of its own: it lists the name and denies that
// the file is there, and in a cache that is exported it becomes a deletion.
package whiteout

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// List is the whiteouts of a tree.
type List struct {
	// ModTime is their modification time.
	ModTime time.Time `json:"modTime"`
	// Paths are where they lie, from the tree's root on, slash-separated and sorted.
	Paths []string `json:"paths"`
}

// Write writes the list to a file.
func (l List) Write(name string) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// Read returns the list in a file.
func Read(name string) (l List, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range l.Paths {
		if p == "" || p != strings.TrimPrefix(path.Clean("/"+p), "/") {
			return l, fmt.Errorf("%s: %q is no path below a root", name, p)
		}
	}
	return l, nil
}

// On returns the paths that lie on one of a node's file systems, from its mount
// point on. mounted are the mount points of all, its own too.
func (l List) On(mountPoint string, mounted []string) []string {
	var paths []string
	for _, p := range l.Paths {
		at := "/"
		for _, m := range mounted {
			if len(m) > len(at) && strings.HasPrefix("/"+p, m+"/") {
				at = m
			}
		}
		if at == mountPoint {
			paths = append(paths, strings.TrimPrefix(strings.TrimPrefix("/"+p, strings.TrimSuffix(at, "/")), "/"))
		}
	}
	return slices.Clip(paths)
}
