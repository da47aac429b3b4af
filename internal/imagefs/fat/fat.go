// Package fat reads FAT12, FAT16 and FAT32 file systems.
//
// What comes in is an io.ReaderAt, what goes out are its files as volume.Node.
// The input may be hostile: chains of clusters have a bound, lengths are
// checked. Names are those of Microsoft's "FAT32 File System Specification",
// version 1.03.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf16"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

var le = binary.LittleEndian

const (
	bootSector = 512
	// maxDirectory bounds the memory for one directory: 65536 entries of 32 bytes.
	maxDirectory = 65536 * entrySize
	entrySize    = 32

	// Counts of clusters below which a volume is FAT12 and FAT16.
	clusters12 = 4085
	clusters16 = 65525
)

// FS is an open file system.
type FS struct {
	r           io.ReaderAt
	bits        int   // of an entry of the FAT: 12, 16 or 32
	cluster     int64 // bytes
	fat         int64 // offset of the first FAT
	root        int64 // offset of the root directory of FAT12 and FAT16
	rootSize    int64
	rootCluster uint32 // of FAT32
	data        int64  // offset of cluster 2
	clusters    uint32
	serial      uint32
	label       string
}

// Is reports whether r looks like a FAT volume: a boot sector with a jump and
// a plausible parameter block.
func Is(r io.ReaderAt) bool {
	b := make([]byte, bootSector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return false
	}
	jump := b[0] == 0xEB && b[2] == 0x90 || b[0] == 0xE9
	return jump && b[510] == 0x55 && b[511] == 0xAA && b[16] >= 1 && b[16] <= 2 &&
		(strings.HasPrefix(string(b[54:]), "FAT") || strings.HasPrefix(string(b[82:]), "FAT32"))
}

// Open reads the parameter block of a file system on a volume of size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, bootSector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("FAT: read boot sector: %w", err)
	}
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, fats, rootEntries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	total, fatSectors := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if fatSectors == 0 {
		fatSectors = int64(le.Uint32(b[36:]))
	}
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 || perCluster == 0 || perCluster&(perCluster-1) != 0 ||
		reserved == 0 || fats == 0 || fatSectors == 0 || total*sector > size {
		return nil, errors.New("FAT: the parameter block makes no sense for this volume")
	}
	f := &FS{r: r, cluster: sector * perCluster, fat: reserved * sector}
	f.root = f.fat + fats*fatSectors*sector
	f.rootSize = rootEntries * entrySize
	f.data = f.root + (f.rootSize+sector-1)/sector*sector
	if f.data >= total*sector {
		return nil, errors.New("FAT: there is no room for files")
	}
	f.clusters = uint32((total*sector - f.data) / f.cluster)
	extended := b[36:] // BS_DrvNum of FAT12 and FAT16
	switch {
	case f.clusters < clusters12:
		f.bits = 12
	case f.clusters < clusters16:
		f.bits = 16
	default:
		f.bits, f.rootCluster, extended = 32, le.Uint32(b[44:]), b[64:]
	}
	if need := int64(f.clusters+2) * int64(f.bits) / 8; need > fatSectors*sector {
		return nil, errors.New("FAT: the allocation table is too short for the volume")
	}
	f.serial, f.label = le.Uint32(extended[3:]), strings.TrimRight(string(extended[7:18]), " ")
	return f, nil
}

// Kind returns "vfat", as fstab calls it.
func (f *FS) Kind() string { return "vfat" }

// UUID returns the serial number as blkid prints it: 2E14-17B3.
func (f *FS) UUID() string { return fmt.Sprintf("%04X-%04X", f.serial>>16, f.serial&0xFFFF) }

// Label returns the label in the boot sector.
func (f *FS) Label() string { return f.label }

// Root returns the root directory.
func (f *FS) Root() (volume.Node, error) {
	return &node{fs: f, dir: true, root: f.bits != 32, first: f.rootCluster}, nil
}

// next returns the cluster that follows n in its chain; ok is false at the end.
func (f *FS) next(n uint32) (following uint32, ok bool, err error) {
	var b [4]byte
	at, length := f.fat+int64(n)*int64(f.bits)/8, (f.bits+7)/8
	if _, err := f.r.ReadAt(b[:length], at); err != nil {
		return 0, false, fmt.Errorf("FAT: read entry %d: %w", n, err)
	}
	v := le.Uint32(b[:])
	switch f.bits {
	case 12:
		if n&1 == 1 {
			v >>= 4
		}
		v &= 0xFFF
	case 32:
		v &= 0x0FFFFFFF
	}
	end := uint32(1)<<min(f.bits, 28) - 8 // 0xFF8, 0xFFF8, 0x0FFFFFF8
	if v >= end {
		return 0, false, nil
	}
	if v < 2 || v >= f.clusters+2 {
		return 0, false, fmt.Errorf("FAT: cluster %d is followed by %d, which does not exist", n, v)
	}
	return v, true, nil
}

// chain lists the clusters of a file that has size bytes.
func (f *FS) chain(first uint32, size int64) ([]uint32, error) {
	if size == 0 || first == 0 {
		return nil, nil
	}
	if first < 2 || first >= f.clusters+2 {
		return nil, fmt.Errorf("FAT: cluster %d does not exist", first)
	}
	var out []uint32
	for n, ok := first, true; ok && int64(len(out))*f.cluster < size; {
		if len(out) > int(f.clusters) {
			return nil, errors.New("FAT: a chain of clusters has a loop")
		}
		out = append(out, n)
		var err error
		if n, ok, err = f.next(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// node is a file or a directory.
type node struct {
	fs       *FS
	dir      bool
	root     bool // of FAT12 or FAT16: outside the clusters
	first    uint32
	size     int64
	modified time.Time
}

// Stat implements volume.Node. FAT knows no owners: everything is root's.
func (n *node) Stat() volume.Stat {
	s := volume.Stat{Mode: 0o755, Size: n.size, Links: 1, ModTime: n.modified, Inode: uint64(n.first)}
	if n.dir {
		s.Mode |= fs.ModeDir
	}
	return s
}

// Target implements volume.Node.
func (n *node) Target() (string, error) { return "", errors.New("FAT: there are no symbolic links") }

// Xattrs implements volume.Node.
func (n *node) Xattrs() (map[string]string, error) { return nil, nil }

// Extents implements volume.Node.
func (n *node) Extents() ([]volume.Extent, error) {
	if n.root {
		return []volume.Extent{{Physical: n.fs.root, Length: n.fs.rootSize}}, nil
	}
	size := n.size
	if n.dir {
		size = maxDirectory
	}
	clusters, err := n.fs.chain(n.first, size)
	if err != nil {
		return nil, err
	}
	var out []volume.Extent
	for i, c := range clusters {
		out = volume.Append(out, volume.Extent{Logical: int64(i) * n.fs.cluster, Physical: n.fs.place(c), Length: n.fs.cluster})
		if len(out) > volume.MaxExtents {
			return nil, fmt.Errorf("FAT: the file at cluster %d is in too many pieces", n.first)
		}
	}
	return out, nil
}

// place is where a cluster lies on the volume.
func (f *FS) place(cluster uint32) int64 { return f.data + int64(cluster-2)*f.cluster }

// Content implements volume.Node.
func (n *node) Content() (io.ReaderAt, error) {
	if n.dir {
		return nil, errors.New("FAT: a directory has no content")
	}
	return n.reader(n.size)
}

func (n *node) reader(size int64) (*file, error) {
	clusters, err := n.fs.chain(n.first, size)
	if err != nil {
		return nil, err
	}
	if n.dir {
		size = int64(len(clusters)) * n.fs.cluster
	} else if int64(len(clusters))*n.fs.cluster < size {
		return nil, errors.New("FAT: a chain of clusters is shorter than its file")
	}
	return &file{fs: n.fs, clusters: clusters, size: size}, nil
}

// Entries implements volume.Node.
func (n *node) Entries() ([]volume.Entry, error) {
	if !n.dir {
		return nil, errors.New("FAT: not a directory")
	}
	var table []byte
	if n.root {
		table = make([]byte, n.fs.rootSize)
		if _, err := n.fs.r.ReadAt(table, n.fs.root); err != nil {
			return nil, fmt.Errorf("FAT: read root directory: %w", err)
		}
	} else {
		r, err := n.reader(maxDirectory)
		if err != nil {
			return nil, err
		}
		table = make([]byte, min(r.size, maxDirectory))
		if _, err := r.ReadAt(table, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return n.fs.parse(table), nil
}

// parse reads a directory's table: long names stand, in pieces and backwards,
// before the entry that they belong to.
func (f *FS) parse(table []byte) []volume.Entry {
	const (
		deleted  = 0xE5
		volumeID = 0x08
		subdir   = 0x10
		longName = 0x0F
	)
	var entries []volume.Entry
	var long []uint16
	for ; len(table) >= entrySize && table[0] != 0; table = table[entrySize:] {
		e := table[:entrySize]
		attributes := e[11]
		switch {
		case e[0] == deleted:
			long = nil
			continue
		case attributes&0x3F == longName:
			if len(long) < 20*13 { // LDIR_Ord goes to 20
				long = append(longPiece(e), long...)
			}
			continue
		case attributes&volumeID != 0:
			long = nil
			continue
		}
		name := shortName(e)
		if len(long) > 0 {
			name = string(utf16.Decode(long))
		}
		long = nil
		if name == "." || name == ".." {
			continue
		}
		child := &node{
			fs: f, dir: attributes&subdir != 0, size: int64(le.Uint32(e[28:])), modified: stamp(le.Uint16(e[24:]), le.Uint16(e[22:])),
			first: uint32(le.Uint16(e[26:])),
		}
		if f.bits == 32 {
			child.first |= uint32(le.Uint16(e[20:])) << 16
		}
		entries = append(entries, volume.Entry{Name: name, Open: func() (volume.Node, error) { return child, nil }})
	}
	return entries
}

// longPiece returns the up to 13 characters of one entry of a long name.
func longPiece(e []byte) []uint16 {
	var out []uint16
	for _, field := range [][]byte{e[1:11], e[14:26], e[28:32]} {
		for ; len(field) >= 2; field = field[2:] {
			c := le.Uint16(field)
			if c == 0 || c == 0xFFFF {
				return out
			}
			out = append(out, c)
		}
	}
	return out
}

// shortName returns an 8.3 name; NTRes says which halves are lower case.
func shortName(e []byte) string {
	const lowerBase, lowerExtension = 0x08, 0x10
	base, extension := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&lowerExtension != 0 {
		extension = strings.ToLower(extension)
	}
	if extension == "" {
		return base
	}
	return base + "." + extension
}

// stamp decodes a date and a time of two seconds' resolution.
func stamp(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

// file reads a chain of clusters.
type file struct {
	fs       *FS
	clusters []uint32
	size     int64
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("FAT: negative offset")
	}
	done := 0
	for done < len(p) && at < f.size {
		skip := at % f.fs.cluster
		n := min(int64(len(p)-done), f.fs.cluster-skip, f.size-at)
		from := f.fs.place(f.clusters[at/f.fs.cluster]) + skip
		if _, err := f.fs.r.ReadAt(p[done:done+int(n)], from); err != nil {
			return done, fmt.Errorf("FAT: %w", err)
		}
		done += int(n)
		at += n
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}
