package ext4

import "nodesmith.dev/nodesmith/internal/disk/size"

// Usage is what entries take of a file system, or what one has to give.
type Usage struct {
	Data   size.Bytes // in whole blocks
	Inodes int64
}

// Capacity returns what an empty file system has free: all that its own
// structures, its journal, lost+found and an empty root directory leave. Need
// counts the root directory too.
func (f FileSystem) Capacity() (Usage, error) {
	set, err := parseFeatures(f.Features)
	if err != nil {
		return Usage{}, err
	}
	g, err := newGeometry(f.Size, set)
	if err != nil {
		return Usage{}, err
	}
	taken := 1 + g.overhead() + indexBlocks(int(ceil(g.journal, maxExtent))*2)
	if g.reservedGDT > 0 {
		taken++
	}
	if !f.Bare {
		taken += lostBlocks
	}
	return Usage{
		Data:   size.Bytes(g.count-min(taken, g.count)) * BlockSize,
		Inodes: int64(g.groups)*int64(g.inodesPerGroup) - firstInode,
	}, nil
}

// Need returns what entries take of a file system with f's features.
func (f FileSystem) Need(entries []Entry) (Usage, error) {
	t, err := plant(entries, f)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for _, n := range t.nodes {
		if n.provided {
			continue // Capacity has taken it off
		}
		u.Inodes++
		for _, o := range []*object{n.content, n.attributes} {
			if o == nil {
				continue
			}
			// Without gaps between files, content is cut where groups have their own
			// structures, and where an extent ends: at most thrice for a small file.
			pieces := len(o.wanted) + int(2*ceil(o.length, maxExtent)) + 1
			u.Data += size.Bytes(o.length+indexBlocks(pieces)) * BlockSize
		}
	}
	return u, nil
}
