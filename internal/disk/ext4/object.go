package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// extent is a range of blocks of a file that lies in one piece (ifork.rst,
// "Extent Tree").
type extent struct {
	logical  uint64
	physical uint64
	length   uint64
}

// maxExtent is the length of the longest initialized extent (ifork.rst, ee_len).
const maxExtent = 1 << 15

// object is what needs blocks: a file's content, or its extended attributes.
type object struct {
	node *node
	// wanted are the ranges of logical blocks that are allocated; length is their
	// sum.
	wanted []extent
	length uint64
	// extents are where they lie.
	extents []extent
}

// newObject makes an object for ranges of bytes; nil when there are none.
func newObject(n *node, ranges []Range) (*object, error) {
	o := &object{node: n}
	end := uint64(0)
	for _, r := range ranges {
		if r.Length == 0 {
			continue
		}
		if r.Offset < 0 || r.Length < 0 || r.Offset > maxFileBlocks*int64(blockSize)-r.Length || uint64(r.Offset) < end*uint64(blockSize) && uint64(r.Offset) < (end-1)*uint64(blockSize) {
			return nil, errors.New("the ranges of its data do not ascend")
		}
		first, last := max(uint64(r.Offset)/uint64(blockSize), end), ceil(uint64(r.Offset+r.Length), uint64(blockSize))
		if last > first {
			o.wanted = append(o.wanted, extent{logical: first, length: last - first})
			o.length += last - first
			end = last
		}
	}
	if o.length == 0 {
		return nil, nil
	}
	return o, nil
}

// fill gives the next wanted blocks a place: a run of blocks at physical.
func (o *object) fill(physical, length uint64) {
	done := uint64(0)
	for _, e := range o.extents {
		done += e.length
	}
	for _, w := range o.wanted {
		if done >= w.length {
			done -= w.length
			continue
		}
		for w.logical, w.length, done = w.logical+done, w.length-done, 0; w.length > 0 && length > 0; {
			n := min(w.length, length)
			o.append(extent{w.logical, physical, n})
			w.logical, w.length, physical, length = w.logical+n, w.length-n, physical+n, length-n
		}
	}
}

// append adds an extent, merged with the last one or cut where it has to be.
func (o *object) append(e extent) {
	if len(o.extents) > 0 {
		last := &o.extents[len(o.extents)-1]
		if last.logical+last.length == e.logical && last.physical+last.length == e.physical {
			n := min(e.length, maxExtent-last.length)
			last.length += n
			e = extent{e.logical + n, e.physical + n, e.length - n}
		}
	}
	for e.length > 0 {
		n := min(e.length, maxExtent)
		o.extents = append(o.extents, extent{e.logical, e.physical, n})
		e = extent{e.logical + n, e.physical + n, e.length - n}
	}
}

// spread is a number that follows from a path alone, evenly distributed; one
// for each use.
func spread(path, use string) uint64 {
	sum := sha256.Sum256([]byte(use + "\x00" + path))
	return binary.LittleEndian.Uint64(sum[:])
}
