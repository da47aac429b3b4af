package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// tree is the entries put together.
type tree struct {
	root *node
	// nodes are all files in the order of their paths, each directory before what
	// is in it; a file with several names is where its first one is.
	nodes []*node
}

// node is a file: an inode to be.
type node struct {
	*Entry
	parent *node
	names  []name // of a directory, by name
	links  int
	number uint32
	// chunk names those whose content lies together: see place.go.
	chunk chunk
	// provided is that of lost+found when it is not among the entries.
	provided bool
	// layout is how a directory's names lie in its blocks.
	layout *directory
	// inline and block are the extended attributes, in the inode and in a block.
	inline, block []byte
	// content and attributes are where the file lies; nil for what has no blocks.
	content, attributes *object
	// index are the blocks of the extent tree, index blocks behind their leaves.
	index []uint64
}

// name is an entry of a directory.
type name struct {
	text string
	node *node
}

func (n *node) isDir() bool { return n.Mode.IsDir() }

// plant makes a tree of the entries.
func plant(entries []Entry, f FileSystem) (*tree, error) {
	t := &tree{}
	byPath := make(map[string]*node, len(entries))
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return nil, err
		}
		if e.Link == "" && (e.Class < 0 || e.Class >= max(len(f.Classes), 1)) {
			return nil, fmt.Errorf("%s: there is no class %d", e.Path, e.Class)
		}
		if _, twice := byPath[e.Path]; twice {
			return nil, fmt.Errorf("%s is there twice", e.Path)
		}
		byPath[e.Path] = &node{Entry: e}
	}
	t.root = byPath[rootPath]
	if t.root == nil || t.root.Link != "" || !t.root.isDir() {
		return nil, errors.New("there is no root directory")
	}
	if err := t.provide(byPath, f); err != nil {
		return nil, err
	}
	for p, n := range byPath {
		if err := n.attach(p, byPath); err != nil {
			return nil, err
		}
	}
	t.walk(t.root, map[*node]bool{})
	return t, t.measure(f)
}

// provide makes lost+found, or takes an empty one out of a bare file system.
func (t *tree) provide(byPath map[string]*node, f FileSystem) error {
	lost := byPath[lostAndFound]
	switch {
	case lost == nil && !f.Bare:
		byPath[lostAndFound] = &node{provided: true, Entry: &Entry{Path: lostAndFound, Mode: fs.ModeDir | 0o700, ModTime: f.Epoch}}
	case lost != nil && f.Bare:
		for p := range byPath {
			if path.Dir(p) == lostAndFound {
				return errors.New("lost+found is there, and not empty")
			}
		}
		delete(byPath, lostAndFound)
	}
	return nil
}

// attach enters a node into its parent under the last element of its path.
func (n *node) attach(p string, byPath map[string]*node) error {
	if p == rootPath {
		n.parent = n
		return nil
	}
	parent := byPath[path.Dir(p)]
	if parent == nil || parent.Link != "" || !parent.isDir() {
		return fmt.Errorf("%s: %s is no directory among the entries", p, path.Dir(p))
	}
	file := n
	if n.Link != "" {
		file = byPath[n.Link]
		if file == nil || file.Link != "" || file.isDir() {
			return fmt.Errorf("%s: its link %s is no file with content of its own", p, n.Link)
		}
	}
	file.links++
	if file.isDir() {
		file.parent = parent
		parent.links++ // ".."
	}
	parent.names = append(parent.names, name{path.Base(p), file})
	return nil
}

// walk orders the nodes. It does not recurse deeper than a path is long.
func (t *tree) walk(n *node, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	t.nodes = append(t.nodes, n)
	slices.SortFunc(n.names, func(a, b name) int { return strings.Compare(a.text, b.text) })
	for _, child := range n.names {
		t.walk(child.node, seen)
	}
}

// measure gives each node its objects: what it needs of blocks.
func (t *tree) measure(f FileSystem) error {
	set, err := parseFeatures(f.Features)
	if err != nil {
		return err
	}
	for _, n := range t.nodes {
		if n.isDir() {
			n.links++ // "."
			if n == t.root {
				n.links++ // its ".."
			}
			if n.layout, err = layOut(n, set, f.HashSeed); err != nil {
				return err
			}
		}
		if n.isDir() && set.roCompat&roCompatDirNlink == 0 || !n.isDir() {
			if n.links > maxLinks {
				return fmt.Errorf("%s has %d links, more than %d", n.Path, n.links, maxLinks)
			}
		}
		if n.inline, n.block, err = encodeXattrs(n.Xattrs); err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		if err := n.need(); err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
	}
	return nil
}

// need makes the node's objects.
func (n *node) need() error {
	var ranges []Range
	switch {
	case n.isDir():
		ranges = []Range{{0, int64(n.layout.blocks) * int64(blockSize)}}
	case n.Mode.Type() == fs.ModeSymlink && len(n.Target) >= inlineTarget:
		ranges = []Range{{0, 1}}
	case n.Mode.IsRegular() && n.Content != nil:
		ranges = []Range{{0, n.Content.Size()}}
		if sparse, ok := n.Content.(Sparse); ok {
			ranges = sparse.Data()
		}
	}
	content, err := newObject(n, ranges)
	if err != nil {
		return err
	}
	n.content = content
	if n.block != nil {
		n.attributes, err = newObject(n, []Range{{0, 1}})
	}
	return err
}

// inlineTarget is the length from which a symbolic link's target takes a block:
// shorter ones are in the inode (ifork.rst, "Symbolic Links").
const inlineTarget = 60
