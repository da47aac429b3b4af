package ext4

import "fmt"

// Inodes are numbered so that a new file changes few blocks: neither those of
// other inodes, nor those of directories that name them.
//
// Each class has a range of inodes. Files are put together in the order of their
// paths, up to a block of the inode table, and cut off where a hash of the next
// path says so. Such a run lies in the half mebibyte of the table that a hash of
// the group of its first file names (see place.go): what moves together in the data
// changes together in the table. In its block a file's place is a hash of its path.
//
// Directories are named by what is in them as "..": when one gets another number,
// the blocks of all directories in it change. So each has a place of its own, in a
// part of the range that is theirs.

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
	// binChoices is how many slots of a bin a run has, binsTried how many bins.
	binChoices, binsTried = 16, 8
	// directoryShare is the part of a range that is for directories: one in 20. Each
	// has as many places in it as directoryChoices.
	directoryShare, directoryChoices = 20, 16
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
	for i, r := range ranges {
		directories := region{r.start, r.start + r.length()/directoryShare}
		s.placeDirectories(b.tree.nodes, i, directories)
		ranges[i].start = directories.end
	}
	open := map[int]*run{} // by class
	var left []*node
	flush := func(class int) {
		if r := open[class]; r != nil && !s.place(r, ranges[class]) {
			left = append(left, r.files...)
		}
	}
	for _, n := range b.tree.nodes {
		switch {
		case n == b.tree.root:
			n.number = rootInode
			continue
		case n.Path == lostAndFound:
			n.number = firstInode
			continue
		case n.number != 0:
			continue
		}
		last := open[n.Class]
		if last == nil || spread(n.Path, "inodes")%meanInodes == 0 {
			flush(n.Class)
			open[n.Class] = &run{path: n.Path, group: n.group}
		} else if uint64(len(last.files)) == slotInodes {
			flush(n.Class)
			open[n.Class] = &run{path: last.path, group: last.group, part: last.part + 1}
		}
		open[n.Class].files = append(open[n.Class].files, n)
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

// placeDirectories gives the directories of a class numbers in a region. Those
// whose places are all taken are left for others to number.
func (s *numbering) placeDirectories(nodes []*node, class int, r region) {
	if r.length() == 0 {
		return
	}
	for _, n := range nodes {
		if n.Class != class || !n.isDir() || n.Path == rootPath || n.Path == lostAndFound {
			continue
		}
		for choice := range directoryChoices {
			number := 1 + r.start*slotInodes + spread(n.Path, fmt.Sprint("directory ", choice))%(r.length()*slotInodes)
			if !s.taken[number] {
				s.take(n, number)
				break
			}
		}
	}
}

// run are files that share a slot. The slots of a long run, which is named by its
// first path, are told apart by their numbers.
type run struct {
	path  string
	group string
	part  int
	files []*node
}

// place finds a slot for files in the range of their class, or at the end of
// all, and gives them numbers in it.
func (s *numbering) place(files *run, r region) bool {
	slot, found := s.find(files, r)
	if !found {
		return false
	}
	for _, n := range files.files {
		index := spread(n.Path, "inode") % slotInodes
		for s.taken[slot*slotInodes+index+1] {
			index = (index + 1) % slotInodes
		}
		s.take(n, slot*slotInodes+index+1)
	}
	return true
}

// find returns a free slot: in the run's bin, if there is one among those that
// a hash names, or in the bins behind it, or the next one that is free.
func (s *numbering) find(files *run, r region) (slot uint64, found bool) {
	if r.length() > 0 {
		bins := max(r.length()/binSlots, 1)
		home, key := spread(files.group, "bin 0"), fmt.Sprint(files.path, "\x00", files.part)
		for try := range uint64(binsTried * binChoices) {
			slot := r.start + (spread(files.group, fmt.Sprint("bin ", try/binChoices))%bins*binSlots+spread(key, fmt.Sprint("slot ", try))%binSlots)%r.length()
			if !s.used[slot] {
				return slot, true
			}
		}
		for k := range r.length() {
			if slot := r.start + (home%bins*binSlots+k)%r.length(); !s.used[slot] {
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
