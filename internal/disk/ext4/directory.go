package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
)

// Directories (directory.rst). One that fits in a block is a list of names;
// a longer one is a hash tree when the file system has dir_index, or a list.
const (
	direntHeader = 8
	direntUnit   = 4
	direntTail   = 12 // ext4_dir_entry_tail
	tailFileType = 0xDE
	dotSize      = 12 // "." and ".." as hash trees have them

	dxInfo       = 24 // offset of dx_root_info
	dxRootFirst  = 32 // of the entries in the root
	dxNodeFirst  = 8  // of the entries in other nodes
	dxEntry      = 8
	dxTail       = 8
	dxInfoLength = 8
	dxContinued  = 1 // in a hash: the block before has names of the same one

	// lostBlocks are those of lost+found, which mke2fs makes large so that e2fsck
	// finds room for names when nothing else is left.
	lostBlocks = 4
)

// fileTypes are the values of the field file_type.
var fileTypes = map[fs.FileMode]byte{
	0: 1, fs.ModeDir: 2, fs.ModeDevice | fs.ModeCharDevice: 3, fs.ModeDevice: 4, fs.ModeNamedPipe: 5, fs.ModeSocket: 6, fs.ModeSymlink: 7,
}

// dirent is a name on its way into a block.
type dirent struct {
	name
	major, minor uint32
}

func (d dirent) room() int { return direntSize(len(d.text)) }

func direntSize(name int) int { return align(direntHeader+name, direntUnit) }

// directory is how names lie in blocks.
type directory struct {
	blocks int
	// leaves are the names by block; of a list the first block has "." and ".."
	// before them.
	leaves [][]dirent
	// nodes is the number of blocks between the root and the leaves of a hash tree.
	nodes   int
	indexed bool
}

// layOut decides how a directory lies in its blocks.
func layOut(n *node, f features, seed gpt.GUID) (*directory, error) {
	tail := 0
	if f.checksums() {
		tail = direntTail
	}
	d := &directory{}
	entries := make([]dirent, len(n.names))
	for i, child := range n.names {
		entries[i] = dirent{name: child}
	}
	d.leaves = pack(entries, 2*dotSize, blockSize-tail)
	d.blocks = len(d.leaves)
	if d.blocks == 1 || f.compat&compatDirIndex == 0 {
		if n.Path == lostAndFound {
			d.blocks = max(d.blocks, lostBlocks)
		}
		return d, nil
	}
	for i := range entries {
		entries[i].major, entries[i].minor = nameHash(entries[i].text, seed)
	}
	slices.SortFunc(entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor), cmp.Compare(a.text, b.text))
	})
	d.indexed, d.leaves = true, pack(entries, 0, blockSize-tail)
	if len(d.leaves) > dxLimit(dxRootFirst, f) {
		d.nodes = int(ceil(uint64(len(d.leaves)), uint64(dxLimit(dxNodeFirst, f))))
	}
	if d.nodes > dxLimit(dxRootFirst, f) {
		return nil, fmt.Errorf("%s has %d names, more than a directory holds without the feature large_dir", n.Path, len(n.names))
	}
	d.blocks = 1 + d.nodes + len(d.leaves)
	return d, nil
}

// pack fills blocks of room bytes with names, the first one after used bytes.
func pack(entries []dirent, used, room int) [][]dirent {
	leaves, start := [][]dirent(nil), 0
	for i, e := range entries {
		if used+e.room() > room {
			leaves, start, used = append(leaves, entries[start:i]), i, 0
		}
		used += e.room()
	}
	return append(leaves, entries[start:])
}

// dxLimit is how many entries a node of a hash tree has whose first one is at
// an offset.
func dxLimit(first int, f features) int {
	if f.checksums() {
		return (blockSize - first - dxTail) / dxEntry
	}
	return (blockSize - first) / dxEntry
}

// encodeDirectory returns a directory's blocks.
func (b *builder) encodeDirectory(n *node) []byte {
	d := n.layout
	data := make([]byte, d.blocks*blockSize)
	block := func(i int) []byte { return data[i*blockSize : (i+1)*blockSize] }
	dots := []dirent{{name: name{".", n}}, {name: name{"..", n.parent}}}
	if !d.indexed {
		for i := range d.blocks {
			var entries []dirent
			if i == 0 {
				entries = dots
			}
			if i < len(d.leaves) {
				entries = append(entries, d.leaves[i]...)
			}
			b.encodeLeaf(n, block(i), entries)
		}
		return data
	}
	root := block(0)
	putDirent(root, dots[0], dotSize)
	putDirent(root[dotSize:], dots[1], blockSize-dotSize)
	root[dxInfo+4], root[dxInfo+5] = hashHalfMD4, dxInfoLength
	first := 1 + d.nodes
	for i, leaf := range d.leaves {
		b.encodeLeaf(n, block(first+i), leaf)
	}
	if d.nodes == 0 {
		b.encodeIndex(n, root, dxRootFirst, d.pointers(0, len(d.leaves), 1, first))
		return data
	}
	root[dxInfo+6] = 1 // indirect_levels
	each := dxLimit(dxNodeFirst, b.features)
	b.encodeIndex(n, root, dxRootFirst, d.pointers(0, len(d.leaves), each, 1))
	for i := range d.nodes {
		binary.LittleEndian.PutUint16(block(1 + i)[4:], uint16(blockSize)) // rec_len of an unused entry
		low, high := i*each, min((i+1)*each, len(d.leaves))
		b.encodeIndex(n, block(1+i), dxNodeFirst, d.pointers(low, high, 1, first+low))
	}
	return data
}

// dxPointer is an entry of a hash tree: the first hash below a block.
type dxPointer struct{ hash, block uint32 }

// pointers returns those to every step-th of the leaves from low to high, whose
// blocks are numbered from first on.
func (d *directory) pointers(low, high, step, first int) []dxPointer {
	var all []dxPointer
	for leaf := low; leaf < high; leaf += step {
		p := dxPointer{d.leaves[leaf][0].major, uint32(first + (leaf-low)/step)}
		if leaf > 0 {
			if before := d.leaves[leaf-1]; before[len(before)-1].major == p.hash {
				p.hash |= dxContinued
			}
		}
		all = append(all, p)
	}
	return all
}

// encodeIndex writes the entries of a hash tree's node. The first one has the
// number of entries where others have their hash.
func (b *builder) encodeIndex(n *node, block []byte, first int, pointers []dxPointer) {
	le, limit := binary.LittleEndian, dxLimit(first, b.features)
	for i, p := range pointers {
		le.PutUint32(block[first+i*dxEntry:], p.hash)
		le.PutUint32(block[first+i*dxEntry+4:], p.block)
	}
	le.PutUint16(block[first:], uint16(limit))
	le.PutUint16(block[first+2:], uint16(len(pointers)))
	if b.features.checksums() {
		sum := crc32c(b.inodeSeed(n.number), block[:first+len(pointers)*dxEntry])
		sum = crc32c(sum, make([]byte, dxTail)) // dt_reserved, and dt_checksum as zero
		le.PutUint32(block[first+limit*dxEntry+4:], sum)
	}
}

// encodeLeaf writes a block of names. The last one reaches to the block's end,
// or to the tail with the checksum.
func (b *builder) encodeLeaf(n *node, block []byte, entries []dirent) {
	end := len(block)
	if b.features.checksums() {
		end -= direntTail
	}
	at := 0
	for i, e := range entries {
		room := e.room()
		if i == len(entries)-1 {
			room = end - at
		}
		putDirent(block[at:], e, room)
		at += room
	}
	if len(entries) == 0 {
		binary.LittleEndian.PutUint16(block[4:], uint16(end)) // rec_len of an unused entry
	}
	if b.features.checksums() {
		block[end+4], block[end+7] = direntTail, tailFileType
		binary.LittleEndian.PutUint32(block[end+8:], crc32c(b.inodeSeed(n.number), block[:end]))
	}
}

// putDirent writes ext4_dir_entry_2.
func putDirent(block []byte, e dirent, room int) {
	binary.LittleEndian.PutUint32(block, e.node.number)
	binary.LittleEndian.PutUint16(block[4:], uint16(room))
	block[6], block[7] = byte(len(e.text)), fileTypes[e.node.Mode.Type()]
	copy(block[direntHeader:], e.text)
}
