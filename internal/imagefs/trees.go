package imagefs

import "fmt"

// NamedTree is a tree of an image. The one that the node sees has no name; others
// are called as their partitions.
type NamedTree struct {
	Name string
	*Tree
}

// Label is what a partition is called: its name, else its number.
func (p Partition) Label() string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprintf("partition %d", p.Number)
}

// Trees returns the tree that the node sees, if there is one, and then every file
// system that can be read and is not in it, in the order of the partitions.
func (i *Image) Trees() []NamedTree {
	var out []NamedTree
	seen := map[int64]bool{}
	if i.Tree != nil {
		out = append(out, NamedTree{"", i.Tree})
		for _, m := range i.Tree.mounts {
			seen[m.on.start] = true
		}
	}
	for n, p := range i.Table.Partitions {
		v := i.volumes[n]
		if v == nil || seen[p.Start] {
			continue
		}
		if tree, err := newTree(v, p); err == nil {
			out = append(out, NamedTree{p.Label(), tree})
		}
	}
	return out
}
