package ext4

import (
	"errors"
	"fmt"
	"io"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// run is a piece of a file that lies in one piece on the volume, in blocks.
// Physical 0 is a hole.
type run struct {
	logical, physical, length uint64
}

// blockMap finds where a file's blocks lie.
type blockMap interface {
	// find returns a run that holds the logical block; a hole may be returned
	// in several pieces.
	find(logical uint64) (run, error)
}

// Extents implements volume.Node.
func (i *inode) Extents() ([]volume.Extent, error) {
	kind := i.mode() & 0xF000
	fast := kind == 0xA000 && i.size() < iBlockSize && i.flags()&flagExtents == 0
	if kind != 0x8000 && kind != 0x4000 && kind != 0xA000 || fast || i.flags()&flagInlineData != 0 {
		return nil, nil
	}
	blocks, bs := i.blockMap(), uint64(i.fs.blockSize)
	end := (uint64(i.size()) + bs - 1) / bs
	var out []volume.Extent
	for at := uint64(0); at < end; {
		r, err := blocks.find(at)
		if err != nil {
			return nil, err
		}
		skip := at - r.logical
		length := min(r.length-skip, end-at)
		if r.physical != 0 {
			if err := i.fs.inside(r); err != nil {
				return nil, err
			}
			out = volume.Append(out, volume.Extent{
				Logical: int64(at * bs), Physical: int64((r.physical + skip) * bs), Length: int64(length * bs),
			})
			if len(out) > volume.MaxExtents {
				return nil, fmt.Errorf("ext4: inode %d is in too many pieces", i.number)
			}
		}
		at += length
	}
	return out, nil
}

// inside refuses a run that does not lie in the file system.
func (f *FS) inside(r run) error {
	if r.physical >= f.blocks || r.length > f.blocks-r.physical {
		return fmt.Errorf("ext4: blocks %d+%d lie outside the file system", r.physical, r.length)
	}
	return nil
}

// file reads a file's content through its block map.
type file struct {
	fs     *FS
	size   int64
	blocks blockMap
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("ext4: negative offset")
	}
	done := 0
	for done < len(p) && at < f.size {
		bs := uint64(f.fs.blockSize)
		r, err := f.blocks.find(uint64(at) / bs)
		if err != nil {
			return done, err
		}
		skip := uint64(at) - r.logical*bs
		n := min(uint64(len(p)-done), r.length*bs-skip, uint64(f.size-at))
		piece := p[done : done+int(n)]
		if r.physical == 0 {
			clear(piece)
		} else {
			if err := f.fs.inside(r); err != nil {
				return done, err
			}
			if _, err := f.fs.r.ReadAt(piece, int64(r.physical*bs+skip)); err != nil {
				return done, fmt.Errorf("ext4: %w", err)
			}
		}
		done += int(n)
		at += int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// The extent tree (ifork.rst, "Extent Tree").
const (
	extentMagic   = 0xF30A
	extentSize    = 12 // of header, index and leaf alike
	maxDepth      = 5
	maxInitLength = 32768 // longer ones are allocated, not written: they read as zeros
)

// extents is a file's tree of extents. It remembers the leaf that it used last,
// so that reading on does not climb the tree again.
type extents struct {
	fs   *FS
	root []byte
	leaf []byte // entries of the last leaf
	low  uint64 // first logical block below that leaf
	high uint64 // first logical block behind it
}

func (e *extents) find(logical uint64) (run, error) {
	if e.leaf == nil || logical < e.low || logical >= e.high {
		if err := e.descend(logical); err != nil {
			return run{}, err
		}
	}
	next := e.high
	for at := len(e.leaf) - extentSize; at >= 0; at -= extentSize {
		x := e.leaf[at : at+extentSize]
		start, length := uint64(le.Uint32(x)), uint64(le.Uint16(x[4:]))
		written := length <= maxInitLength
		if !written {
			length -= maxInitLength
		}
		if logical < start {
			next = start
			continue
		}
		if logical >= start+length {
			break // a hole behind this extent
		}
		r := run{logical: start, length: length}
		if written {
			r.physical = uint64(le.Uint32(x[8:])) | uint64(le.Uint16(x[6:]))<<32
			if r.physical == 0 {
				return run{}, errors.New("ext4: an extent in the boot block")
			}
		}
		return r, nil
	}
	return run{logical: logical, length: next - logical}, nil
}

// descend finds the leaf for a logical block.
func (e *extents) descend(logical uint64) error {
	node, low, high := e.root, uint64(0), uint64(1)<<32
	for depth := -1; ; {
		entries, d, err := extentNode(node)
		if err != nil {
			return err
		}
		if depth >= 0 && d != depth-1 {
			return errors.New("ext4: the levels of an extent tree do not follow each other")
		}
		if depth = d; depth == 0 {
			e.leaf, e.low, e.high = entries, low, max(high, logical+1)
			return nil
		}
		var child uint64
		found := false
		for ; len(entries) > 0; entries = entries[extentSize:] {
			start := uint64(le.Uint32(entries))
			if start > logical {
				high = min(high, start)
				break
			}
			low, found = start, true
			child = uint64(le.Uint32(entries[4:])) | uint64(le.Uint16(entries[8:]))<<32
		}
		if !found { // a hole before the first extent
			e.leaf, e.low, e.high = []byte{}, low, high
			return nil
		}
		if node, err = e.fs.readBlock(child); err != nil {
			return err
		}
	}
}

// extentNode checks a node's header and returns its entries and its height
// above the leaves.
func extentNode(node []byte) (entries []byte, depth int, err error) {
	count, depth := int(le.Uint16(node[2:])), int(le.Uint16(node[6:]))
	if le.Uint16(node) != extentMagic || depth > maxDepth || (count+1)*extentSize > len(node) {
		return nil, 0, errors.New("ext4: a damaged extent tree")
	}
	return node[extentSize : (count+1)*extentSize], depth, nil
}

// indirect is the block map of ext2 and ext3 (ifork.rst, "Direct/Indirect
// Block Addressing").
type indirect struct {
	fs   *FS
	root []byte
	// last is the map block used last, at the number lastBlock.
	last      []byte
	lastBlock uint64
}

func (m *indirect) find(logical uint64) (run, error) {
	const direct = 12
	per := uint64(m.fs.blockSize) / 4
	if logical < direct {
		return run{logical, uint64(le.Uint32(m.root[logical*4:])), 1}, nil
	}
	rest, span := logical-direct, uint64(1)
	for level := range 3 {
		span *= per
		if rest >= span {
			rest -= span
			continue
		}
		block, covers := uint64(le.Uint32(m.root[(direct+level)*4:])), span
		for block != 0 && covers > 1 {
			if err := m.load(block); err != nil {
				return run{}, err
			}
			covers /= per
			block = uint64(le.Uint32(m.last[rest/covers*4:]))
			rest %= covers
		}
		return run{logical - rest, block, covers}, nil // more than one block only in a hole
	}
	return run{}, fmt.Errorf("ext4: block %d is behind the end of a block map", logical)
}

func (m *indirect) load(block uint64) (err error) {
	if m.last == nil || m.lastBlock != block {
		m.lastBlock = block
		m.last, err = m.fs.readBlock(block)
	}
	return err
}
