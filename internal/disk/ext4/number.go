package ext4

import (
	"path"
	"strings"
)

// Inodes are numbered so that a new file changes few blocks: neither those of
// other inodes, nor those of directories that name them.
//
// Each class has a range of inodes. Files are put together in the order of their
// paths, up to a block of the inode table, and cut off where a hash of the next
// path says so. Such a slot lies where a hash of its directory (of the first
// elements of the path) says, so that a package's files, which mostly lie in few
// directories, share some half mebibyte of the table. In its slot a file's place
// is a hash of its path.

// Inodes that every file system has (inodes.rst, "Special inodes").
const (
	badBlocksInode = 1
	rootInode      = 2
	resizeInode    = 7
	journalInode   = 8
	// firstInode is the first that is not reserved: lost+found's, as by mke2fs.
	firstInode = 11
)

const (
	slotInodes = uint64(inodesPerBlock)
	// binSlots are the slots of 512 KiB of an inode table.
	binSlots = slotBlocks
	// meanInodes is how many files share a slot on average, before it is full.
	meanInodes = slotInodes * 3 / 4
	// homeDepth is how many elements of a path say where its slot lies.
	homeDepth = 5
)

// numbering is one run of number.
type numbering struct {
	taken []bool // by inode number
	used  []bool // by slot
	slots uint64
}

// number gives all nodes their inodes.
func (b *builder) number() error {
	total := uint64(b.groups) * uint64(b.inodesPerGroup)
	s := &numbering{taken: make([]bool, total+1), slots: total / slotInodes}
	s.used = make([]bool, s.slots)
	for i := range uint64(firstInode) + 1 {
		s.taken[i] = true
	}
	s.used[0] = true
	ranges := regions(b.Classes, s.slots, func(c Class) uint64 { return c.MaxInodes / slotInodes })
	open := map[int][]*node{} // by class
	var left []*node
	flush := func(class int) {
		if files := open[class]; len(files) > 0 && !s.place(files, ranges[class]) {
			left = append(left, files...)
		}
		open[class] = nil
	}
	for _, n := range b.tree.nodes {
		switch {
		case n == b.tree.root:
			n.number = rootInode
			continue
		case n.Path == lostAndFound:
			n.number = firstInode
			continue
		}
		if uint64(len(open[n.Class])) == slotInodes || spread(n.Path, "inode cut")%meanInodes == 0 {
			flush(n.Class)
		}
		open[n.Class] = append(open[n.Class], n)
	}
	for class := range b.Classes {
		flush(class)
	}
	free := uint64(0)
	for _, n := range left {
		for free <= total && s.taken[free] {
			free++
		}
		if free > total {
			return full("inodes")
		}
		s.take(n, free)
	}
	return nil
}

func (s *numbering) take(n *node, number uint64) {
	s.taken[number], s.used[(number-1)/slotInodes], n.number = true, true, uint32(number)
}

// place finds a slot for files in the range of their class, or at the end of
// all, and gives them numbers in it.
func (s *numbering) place(files []*node, r region) bool {
	slot, found := s.find(files[0].Path, r)
	if !found {
		return false
	}
	for _, n := range files {
		index := spread(n.Path, "inode") % slotInodes
		for s.taken[slot*slotInodes+index+1] {
			index = (index + 1) % slotInodes
		}
		s.take(n, slot*slotInodes+index+1)
	}
	return true
}

// find returns the first free slot from a path's own one on.
func (s *numbering) find(p string, r region) (slot uint64, found bool) {
	if r.length() > 0 {
		bins := max(r.length()/binSlots, 1)
		home := spread(homeOf(p), "bin")%bins*binSlots + spread(p, "slot")%binSlots
		for k := range r.length() {
			if slot := r.start + (home+k)%r.length(); !s.used[slot] {
				return slot, true
			}
		}
	}
	for slot := s.slots - 1; slot > 0; slot-- {
		if !s.used[slot] {
			return slot, true
		}
	}
	return 0, false
}

// homeOf returns the first elements of a path's directory.
func homeOf(p string) string {
	elements := strings.SplitN(path.Dir(p), "/", homeDepth+1)
	return strings.Join(elements[:min(len(elements), homeDepth)], "/")
}
