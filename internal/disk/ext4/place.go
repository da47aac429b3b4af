package ext4

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Blocks are placed so that a change of some files moves few others, and changes
// few slots, without knowing any earlier image: where a file lies follows from
// its path and its group.
//
// Each class has a region of the file system, whose bounds follow from the size
// of the file system alone. Blocks are handed out in slots. A large file has
// slots of its own, side by side; where they begin is a hash of its path. All
// else is cut into chunks, whose slots begin where a hash of their names says:
//
//   - What is of one group makes chunks of its own: a package that comes takes
//     slots of its own and moves no other.
//   - Directories without a group, which are those that many packages have names
//     in, lie together, by their paths, and those with many names by themselves:
//     they are the ones that get more. Whichever of them change, they are in few
//     slots.
//   - The other files follow each other by their paths.
//
// In a chunk things are in the order of their paths. The first chunk of a kind is
// named by it, the others by their first paths: a chunk ends where a hash of the
// next path says so. A new file thus moves what stands behind it in its chunk, and
// what it takes the place of: larger files choose first, and the order of paths
// decides between others.
//
// What finds no room in its region takes some at the file system's end, then
// whatever is free. Only when that does not suffice is everything laid out
// without gaps, in the order of paths.

// Class is a set of files that change together.
type Class struct {
	Name string
	// Share is the part of the file system that is theirs, in hundredths.
	Share uint64
	// MaxSize bounds that part, and MaxInodes that of the inodes; 0 is no bound.
	MaxSize   size.Bytes
	MaxInodes uint64
	// NearInodes is the part of the inodes that is chosen from first, so that what
	// comes to a class of few files shares their blocks; 0 is all.
	NearInodes uint64
}

const wholeShare = 100

func checkClasses(classes []Class) error {
	sum := uint64(0)
	for _, c := range classes {
		sum += c.Share
	}
	if len(classes) > 0 && sum != wholeShare {
		return fmt.Errorf("ext4: the shares of the classes add up to %d hundredths", sum)
	}
	return nil
}

// region is a half-open range of slots.
type region struct{ start, end uint64 }

func (r region) length() uint64 { return r.end - r.start }

// regions divides a number of slots among the classes; most returns the bound of
// a class, 0 for none.
func regions(classes []Class, slots uint64, most func(Class) uint64) []region {
	all, next := make([]region, len(classes)), uint64(0)
	for i, c := range classes {
		length := slots * c.Share / wholeShare
		if bound := most(c); bound > 0 {
			length = min(length, bound)
		}
		all[i] = region{next, next + length}
		next += length
	}
	return all
}

const (
	// slotBlocks are 512 KiB, the unit in which disks are kept and sent.
	slotBlocks = 128
	// largeBlocks is from when a file has slots of its own; pieceBlocks is the most
	// of a chunk that is placed in one piece.
	largeBlocks, pieceBlocks = 8 * slotBlocks, 16 * slotBlocks
	// meanLoose and meanGroup are what chunks weigh on average, of files by their
	// paths and of all others: a block as much as a name. Files by their paths are
	// many sets that change one by one; a group changes as a whole.
	meanLoose, meanGroup = slotBlocks * 3 / 4, 8 * slotBlocks
	// busyNames is from when a directory is one of those with many names.
	busyNames = 16
	// choices is how many places a chunk or a large file has.
	choices = 16
)

// chunk names what is laid out side by side.
type chunk struct {
	kind
	first string // path; none of the first one of a kind
}

// kind is what chunks are made of.
type kind struct {
	class int
	// set is a group, the directories of a class without one, or its files.
	set string
}

// The sets of what has no group; those of groups begin with groupSet.
const (
	busySet      = "busy directories"
	directorySet = "directories"
	looseSet     = "files"
	groupSet     = "group "
)

func (n *node) kind() kind {
	switch {
	case n.Group != "":
		return kind{n.Class, groupSet + n.Group}
	case n.isDir() && len(n.names) >= busyNames:
		return kind{n.Class, busySet}
	case n.isDir():
		return kind{n.Class, directorySet}
	}
	return kind{n.Class, looseSet}
}

// name is what the chunk's place is a hash of.
func (c chunk) name() string { return c.set + "\x00" + c.first }

// item is what is placed in one piece.
type item struct {
	key     string
	class   int
	length  uint64 // blocks
	objects []*object
}

func (i *item) slots() uint64 { return ceil(i.length, slotBlocks) }

// place finds blocks for everything.
func (b *builder) place() error {
	a := newAllocator(b.count)
	b.reserve(a)
	special, err := b.placeSpecial(a)
	if err != nil {
		return err
	}
	b.special = special
	objects := b.objects()
	for _, try := range []func(*allocator, []*object) bool{b.placeStable, b.placeDense} {
		for _, o := range objects {
			o.extents, o.node.index = nil, nil
		}
		b.blocks = a.clone()
		if try(b.blocks, objects) && b.placeIndex(b.blocks, objects) {
			return nil
		}
	}
	return full("blocks")
}

// objects lists what is to be placed, in the order of paths.
func (b *builder) objects() []*object {
	var all []*object
	for _, n := range b.tree.nodes {
		for _, o := range []*object{n.content, n.attributes} {
			if o != nil {
				all = append(all, o)
			}
		}
	}
	return all
}

// cut gives each node its chunk: see the beginning of this file.
func (t *tree) cut() {
	open := map[kind]chunk{}
	for _, n := range t.nodes {
		weight, k, mean := uint64(1), n.kind(), uint64(meanGroup)
		if k.set == looseSet {
			mean = meanLoose
		}
		for _, o := range []*object{n.content, n.attributes} {
			if o != nil && o.length < largeBlocks {
				weight += o.length
			}
		}
		last, begun := open[k]
		switch {
		case !begun:
			last = chunk{kind: k}
		case spread(n.Path, "chunk")/(^uint64(0)/mean) < weight:
			last.first = n.Path
		}
		n.chunk, open[k] = last, last
	}
}

// items puts the objects of a chunk together, as many as are placed in one piece.
// It names a chunk's further pieces by their numbers, not by the file that happens
// to be the first: they keep their places when one more file comes before them.
func items(objects []*object) []*item {
	var all []*item
	open, parts := map[chunk]*item{}, map[chunk]int{}
	for _, o := range objects {
		c := o.node.chunk
		if o.length >= largeBlocks {
			all = append(all, &item{o.node.Path, c.class, o.length, []*object{o}})
			continue
		}
		last := open[c]
		if last == nil || last.length+o.length > pieceBlocks {
			last = &item{key: fmt.Sprint(c.name(), "\x00", parts[c]), class: c.class}
			open[c] = last
			parts[c]++
			all = append(all, last)
		}
		last.length += o.length
		last.objects = append(last.objects, o)
	}
	return all
}

// placeStable places the items by the hashes of their paths.
func (b *builder) placeStable(a *allocator, objects []*object) bool {
	all := items(objects)
	// The order of items of one size class is that of their paths.
	slices.SortStableFunc(all, func(x, y *item) int { return cmp.Compare(bits.Len64(y.slots()), bits.Len64(x.slots())) })
	slots := b.count / slotBlocks
	mine := regions(b.Classes, slots, func(c Class) uint64 { return uint64(c.MaxSize / BlockSize / slotBlocks) })
	var left []*item
	for _, i := range all {
		slot, found := choose(a, i, mine[i.class])
		if !found {
			slot, found = fromEnd(a, i.slots(), slots)
		}
		if !found {
			left = append(left, i)
			continue
		}
		next := slot * slotBlocks
		a.take(next, i.length)
		for _, o := range i.objects {
			o.fill(next, o.length)
			next += o.length
		}
	}
	for _, i := range left {
		for _, o := range i.objects {
			if !a.fill(o, mine[i.class].start*slotBlocks) {
				return false
			}
		}
	}
	return true
}

// choose finds slots for an item in its region: at one of the places that its
// path has, or at the first free ones behind the first of them. A file that grows
// keeps its place.
func choose(a *allocator, i *item, r region) (slot uint64, found bool) {
	n := i.slots()
	if r.length() < n {
		return 0, false
	}
	fits := func(slot uint64) bool { return slot+n <= r.end && a.isFree(slot*slotBlocks, n*slotBlocks) }
	for choice := range choices {
		slot := r.start + spread(i.key, fmt.Sprint("place ", choice))%r.length()
		if fits(slot) {
			return slot, true
		}
	}
	first := spread(i.key, "place 0") % r.length()
	for k := range r.length() {
		if slot := r.start + (first+k)%r.length(); fits(slot) {
			return slot, true
		}
	}
	return 0, false
}

// fromEnd finds the last free slots of the file system.
func fromEnd(a *allocator, n, slots uint64) (slot uint64, found bool) {
	if slots < n {
		return 0, false
	}
	for slot := slots - n; ; slot-- {
		if a.isFree(slot*slotBlocks, n*slotBlocks) {
			return slot, true
		}
		if slot == 0 {
			return 0, false
		}
	}
}

// placeDense places objects one behind the other.
func (b *builder) placeDense(a *allocator, objects []*object) bool {
	for _, o := range objects {
		if !a.fill(o, 0) {
			return false
		}
	}
	return true
}

// placeIndex finds blocks for the extent trees of files in many pieces.
func (b *builder) placeIndex(a *allocator, objects []*object) bool {
	for _, o := range objects {
		blocks := indexBlocks(len(o.extents))
		if o == o.node.attributes || blocks == 0 {
			continue
		}
		index := &object{node: o.node, wanted: []extent{{length: blocks}}, length: blocks}
		if !a.fill(index, o.extents[0].physical) {
			return false
		}
		for _, e := range index.extents {
			for k := range e.length {
				o.node.index = append(o.node.index, e.physical+k)
			}
		}
	}
	return true
}
