package ext4

import (
	"math/bits"
	"slices"
)

// allocator knows which blocks are taken.
type allocator struct {
	taken []uint64 // a bit for each block
	count uint64
	free  uint64
}

const wordBits = 64

func newAllocator(count uint64) *allocator {
	return &allocator{taken: make([]uint64, ceil(count, wordBits)), count: count, free: count}
}

func (a *allocator) clone() *allocator {
	return &allocator{slices.Clone(a.taken), a.count, a.free}
}

// mask returns the bits of the word that holds block start, from it on, and how
// many of length they are.
func mask(start, length uint64) (bits, covered uint64) {
	shift := start % wordBits
	covered = min(wordBits-shift, length)
	return (^uint64(0) >> (wordBits - covered)) << shift, covered
}

// take marks blocks that are free.
func (a *allocator) take(start, length uint64) {
	a.free -= length
	for length > 0 {
		m, covered := mask(start, length)
		a.taken[start/wordBits] |= m
		start, length = start+covered, length-covered
	}
}

// isFree says whether all blocks of a range exist and are free.
func (a *allocator) isFree(start, length uint64) bool {
	if start > a.count || length > a.count-start {
		return false
	}
	for length > 0 {
		m, covered := mask(start, length)
		if a.taken[start/wordBits]&m != 0 {
			return false
		}
		start, length = start+covered, length-covered
	}
	return true
}

// takenIn counts the blocks of a range that are taken.
func (a *allocator) takenIn(start, length uint64) (n uint64) {
	for length > 0 {
		m, covered := mask(start, length)
		n += uint64(bits.OnesCount64(a.taken[start/wordBits] & m))
		start, length = start+covered, length-covered
	}
	return n
}

// run returns the first free range at or after a block, at most limit long; a
// length of 0 when there is none.
func (a *allocator) run(from, limit uint64) (start, length uint64) {
	for start = from; start < a.count; {
		word := a.taken[start/wordBits] >> (start % wordBits)
		if word&1 == 0 {
			break
		}
		start += min(uint64(bits.TrailingZeros64(^word)), wordBits-start%wordBits)
	}
	for start+length < a.count && length < limit {
		at := start + length
		word := a.taken[at/wordBits] >> (at % wordBits)
		zeros := min(uint64(bits.TrailingZeros64(word)), wordBits-at%wordBits)
		if zeros == 0 {
			break
		}
		length += zeros
	}
	return start, min(length, limit, a.count-min(start, a.count))
}

// contiguous returns the first free range of exactly length blocks.
func (a *allocator) contiguous(length uint64) (start uint64, found bool) {
	for from := uint64(0); from < a.count; {
		start, n := a.run(from, length)
		if n == length {
			return start, true
		}
		from = start + n + 1
	}
	return 0, false
}

// fill gives an object the first free blocks from one on, and goes on at the
// beginning; false when they do not suffice.
func (a *allocator) fill(o *object, from uint64) bool {
	missing := o.length
	if missing > a.free {
		return false
	}
	for at := from; missing > 0; {
		start, n := a.run(at, missing)
		if n == 0 {
			if at == 0 {
				return false
			}
			at = 0
			continue
		}
		a.take(start, n)
		o.fill(start, n)
		at, missing = start+n, missing-n
	}
	return true
}
