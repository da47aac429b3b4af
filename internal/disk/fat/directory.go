package fat

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
)

// Attributes and case flags of a directory entry, section "FAT Directory
// Structure". The case flags are Windows NT's use of the reserved byte: they
// let a name in one case keep it without a long name.
const (
	attrVolumeID  = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	lowerBase     = 0x08
	lowerExt      = 0x10
)

// dirEntry is the 32-byte directory entry structure.
type dirEntry struct {
	Name             [11]byte
	Attributes       uint8
	Case             uint8
	CreateTenths     uint8
	CreateTime       uint16
	CreateDate       uint16
	AccessDate       uint16
	FirstClusterHigh uint16
	WriteTime        uint16
	WriteDate        uint16
	FirstClusterLow  uint16
	Size             uint32
}

// node is a file or directory of the tree that the paths describe.
type node struct {
	name     string
	data     []byte
	children []*node // nil for files
	first    int     // first cluster; 0 for an empty file
}

func (n *node) isDirectory() bool { return n.children != nil }

// chain is content in consecutive clusters.
type chain struct {
	first int
	data  []byte
}

// allocation hands out clusters in order. Everything is known in advance, so
// every file is in one piece.
type allocation struct {
	geometry
	fat    []uint32
	chains []chain
	time   time.Time
}

// reserve takes the clusters for length bytes and returns the first.
func (a *allocation) reserve(length int) (int, error) {
	if length == 0 {
		return 0, nil
	}
	bytesPerCluster := a.perCluster * sector
	count := (length + bytesPerCluster - 1) / bytesPerCluster
	first := len(a.fat)
	if count > a.clusters+rootCluster-first {
		return 0, fmt.Errorf("FAT32: the volume is full: %d of its %d clusters are taken and %d more are needed",
			first-rootCluster, a.clusters, count)
	}
	for i := 1; i < count; i++ {
		a.fat = append(a.fat, uint32(first+i))
	}
	a.fat = append(a.fat, endOfChain)
	return first, nil
}

// place lays out all files, directories before what they hold.
func (a *allocation) place(files []File, label [11]byte) error {
	root, err := newTree(files)
	if err != nil {
		return err
	}
	if err := a.reserveAll(root, 1); err != nil {
		return err
	}
	volume := a.entry(label, 0, attrVolumeID, nil)
	return a.emit(root, []dirEntry{volume})
}

// reserveAll gives clusters to n and all below it. extra is the number of
// entries a directory has besides its children.
func (a *allocation) reserveAll(n *node, extra int) (err error) {
	length := len(n.data)
	if n.isDirectory() {
		length = (len(n.children) + extra) * dirEntrySize
	}
	if n.first, err = a.reserve(length); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := a.reserveAll(c, 2); err != nil {
			return err
		}
	}
	return nil
}

const dirEntrySize = 32

// emit appends the content of directory n, which begins with the given entries,
// and of all below it.
func (a *allocation) emit(n *node, entries []dirEntry) error {
	for _, c := range n.children {
		name, caseFlags, err := encodeName(c.name)
		if err != nil {
			return err
		}
		attributes := uint8(attrArchive)
		if c.isDirectory() {
			attributes = attrDirectory
		}
		entries = append(entries, a.entry(name, caseFlags, attributes, c))
	}
	a.chains = append(a.chains, chain{n.first, pack(entries)})
	for _, c := range n.children {
		if !c.isDirectory() {
			a.chains = append(a.chains, chain{c.first, c.data})
			continue
		}
		parent := *n
		if n.first == rootCluster {
			parent.first = 0 // ".." of a directory in the root names cluster 0
		}
		dots := []dirEntry{
			a.entry(padded(".", ""), 0, attrDirectory, c),
			a.entry(padded("..", ""), 0, attrDirectory, &parent),
		}
		if err := a.emit(c, dots); err != nil {
			return err
		}
	}
	return nil
}

// entry makes the directory entry for n, nil for the volume label.
func (a *allocation) entry(name [11]byte, caseFlags, attributes uint8, n *node) dirEntry {
	date, clock := dosTime(a.time)
	e := dirEntry{
		Name: name, Case: caseFlags, Attributes: attributes,
		CreateDate: date, CreateTime: clock, AccessDate: date, WriteDate: date, WriteTime: clock,
	}
	if n != nil {
		e.FirstClusterHigh, e.FirstClusterLow = uint16(n.first>>16), uint16(n.first)
		e.Size = uint32(len(n.data))
	}
	return e
}

// dosTime returns t in UTC in the format of section "Date and Time Formats".
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	switch {
	case t.Year() < 1980:
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	return date, clock
}

// newTree makes the directory tree of a set of files, in order of the names.
func newTree(files []File) (*node, error) {
	root := &node{children: []*node{}}
	for _, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." {
			return nil, fmt.Errorf("FAT32: %q is not a relative path", f.Path)
		}
		if int64(len(f.Data)) > math.MaxUint32 {
			return nil, fmt.Errorf("FAT32: %s has %d bytes, files end at 4 GiB", f.Path, len(f.Data))
		}
		dir, names := root, strings.Split(f.Path, "/")
		for i, name := range names {
			at, found := slices.BinarySearchFunc(dir.children, name, func(n *node, s string) int {
				return cmp.Compare(strings.ToUpper(n.name), strings.ToUpper(s))
			})
			last := i == len(names)-1
			if found && (last || !dir.children[at].isDirectory() || dir.children[at].name != name) {
				return nil, fmt.Errorf("FAT32: %s: two files have this name (the case of letters does not count)", f.Path)
			}
			if !found {
				n := &node{name: name, data: f.Data}
				if !last {
					n = &node{name: name, children: []*node{}}
				}
				dir.children = slices.Insert(dir.children, at, n)
			}
			dir = dir.children[at]
		}
	}
	return root, nil
}

// encodeName returns the short name and the case flags of name.
func encodeName(name string) (short [11]byte, caseFlags uint8, err error) {
	base, ext, _ := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || strings.Contains(ext, ".") || !isShort(base) || !isShort(ext) {
		return short, 0, fmt.Errorf("FAT32: %q is not a name of the form 8.3", name)
	}
	for _, part := range []struct {
		text string
		flag uint8
	}{{base, lowerBase}, {ext, lowerExt}} {
		switch {
		case part.text == strings.ToUpper(part.text):
		case part.text == strings.ToLower(part.text):
			caseFlags |= part.flag
		default:
			return short, 0, fmt.Errorf("FAT32: %q mixes upper and lower case, which a short name can't keep", name)
		}
	}
	return padded(strings.ToUpper(base), strings.ToUpper(ext)), caseFlags, nil
}

func encodeLabel(label string) ([11]byte, error) {
	if label == "" || len(label) > 11 || !isShort(label) || label != strings.ToUpper(label) {
		return [11]byte{}, fmt.Errorf("FAT32: %q is not a volume label: 1 to 11 letters in upper case, digits, - and _", label)
	}
	return [11]byte([]byte(label + strings.Repeat(" ", 11-len(label)))), nil
}

func padded(base, ext string) [11]byte {
	return [11]byte([]byte(fmt.Sprintf("%-8s%-3s", base, ext)))
}

// isShort reports whether s has only characters that every FAT driver takes in
// a short name.
func isShort(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
