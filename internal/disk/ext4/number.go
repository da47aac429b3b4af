package ext4

import (
	"cmp"
	"fmt"
	"slices"
)

// Inodes are numbered so that a new file changes few blocks: neither those of
// other inodes, nor those of directories that name them.
//
// Each class has a range of inodes. Files of a kind (see place.go) are put together
// in the order of their paths, up to a block of the inode table, and cut off where
// a hash of the next path says so. Such a run lies in the half mebibyte of the
// disk that a hash of its group says, or of its chunk when it has no group: what
// comes together is in one of them. In its block a file's place is a hash of its
// path.
//
// Directories are named by what is in them as "..": when one gets another number,
// the blocks of all directories in it change. So each that has no group has a place
// of its own, in a part of the range that is theirs, and those with the most
// directories in them choose first. Their places are as close together as their
// number allows: they change with whatever gets a name in them.

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
	// leastBin is the number of slots that a bin needs to be chosen: the tables' ends
	// are smaller ones.
	leastBin = slotBlocks / 4
	// meanRun and meanGroupRun are how many files follow each other on average, in
	// slots of their own: see meanLoose.
	meanRun, meanGroupRun = slotInodes * 3 / 4, 3 * slotInodes
	// binChoices is how many slots of a bin a run has, binsTried how many bins.
	binChoices, binsTried = 16, 8
	// directoryShare is the part of a range that is for directories: one in 20. Each
	// has as many places in it as directoryChoices: nearPlaces in the first bin, as
	// many in the first two, and so on.
	directoryShare, directoryChoices, nearPlaces = 20, 16, 4
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
	b.tree.root.number = rootInode
	for _, n := range b.tree.nodes {
		if n.Path == lostAndFound {
			n.number = firstInode
		}
	}
	ranges := regions(b.Classes, s.slots, func(c Class) uint64 { return c.MaxInodes / slotInodes })
	for i, r := range ranges {
		directories := region{r.start, r.start + r.length()/directoryShare}
		s.placeDirectories(b.tree.nodes, i, b.bins(directories))
		ranges[i].start = directories.end
	}
	binned := make([][]region, len(ranges))
	for i, r := range ranges {
		binned[i] = b.bins(r)
	}
	var left []*node
	for _, r := range b.runs() {
		if !s.place(r, binned[r.class], b.Classes[r.class].NearInodes) {
			left = append(left, r.files...)
		}
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

// bins cuts a range of slots where the blocks of 512 KiB of the disk end that they
// lie in. Each has leastBin slots or more, unless the whole range has fewer.
func (b *builder) bins(r region) []region {
	if r.length() == 0 {
		return nil
	}
	all := []region{{r.start, r.start}}
	for slot := r.start; slot < r.end; slot++ {
		last := &all[len(all)-1]
		at := b.at(uint32(slot/b.tableBlocks)).inodeTable + slot%b.tableBlocks
		if at%slotBlocks == 0 && last.length() >= leastBin && r.end-slot >= leastBin {
			all = append(all, region{slot, slot + 1})
			continue
		}
		last.end = slot + 1
	}
	return all
}

// placeDirectories gives the directories of a class that have no group numbers in
// some bins. Those whose places are all taken are left for others to number.
func (s *numbering) placeDirectories(nodes []*node, class int, bins []region) {
	if len(bins) == 0 {
		return
	}
	var directories []*node
	for _, n := range nodes {
		if n.Class == class && n.isDir() && n.Group == "" && n.number == 0 {
			directories = append(directories, n)
		}
	}
	slices.SortStableFunc(directories, func(a, b *node) int { return cmp.Compare(b.links, a.links) })
	for _, n := range directories {
		for choice := range directoryChoices {
			near := region{bins[0].start, bins[min(1<<(choice/nearPlaces), len(bins))-1].end}
			number := 1 + near.start*slotInodes + spread(n.Path, fmt.Sprint("directory ", choice))%(near.length()*slotInodes)
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
	kind
	bin   string // what the place of its bin is a hash of
	path  string
	part  int
	files []*node
}

// runs puts the files together that have no number yet.
func (b *builder) runs() []*run {
	var all []*run
	open := map[kind]*run{}
	for _, n := range b.tree.nodes {
		if n.number != 0 {
			continue
		}
		k, mean := n.kind(), uint64(meanRun)
		if n.Group != "" {
			mean = meanGroupRun
		}
		last := open[k]
		switch {
		case last == nil || spread(n.Path, "inodes")%mean == 0:
			next := &run{kind: k, bin: n.chunk.name()}
			if n.Group != "" {
				next.bin = k.set
			}
			if last != nil {
				next.path = n.Path
			}
			last = next
		case uint64(len(last.files)) == slotInodes:
			last = &run{kind: k, bin: last.bin, path: last.path, part: last.part + 1}
		}
		if open[k] != last {
			open[k] = last
			all = append(all, last)
		}
		last.files = append(last.files, n)
	}
	return all
}

// place finds a slot for files in the bins of their class, or at the end of all,
// and gives them numbers in it.
func (s *numbering) place(files *run, bins []region, near uint64) bool {
	slot, found := s.find(files, bins, near)
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
// a hash names, or in another bin that it names, of twice as many each time, or
// the next one that is free.
func (s *numbering) find(files *run, bins []region, near uint64) (slot uint64, found bool) {
	if count := uint64(len(bins)); count > 0 {
		first := count
		if near > 0 {
			first = max(near/slotInodes/slotBlocks, 1)
		}
		key := fmt.Sprint(files.set, "\x00", files.path, "\x00", files.part)
		for try := range uint64(binsTried * binChoices) {
			among := min(first<<(try/binChoices), count)
			bin := bins[spread(files.bin, fmt.Sprint("bin ", try/binChoices))%among]
			slot := bin.start + spread(key, fmt.Sprint("slot ", try))%bin.length()
			if !s.used[slot] {
				return slot, true
			}
		}
		home := spread(files.bin, "bin 0") % min(first, count)
		for k := range count {
			bin := bins[(home+k)%count]
			for slot := bin.start; slot < bin.end; slot++ {
				if !s.used[slot] {
					return slot, true
				}
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
