package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

const (
	// maxFiles bounds the files that are listed.
	maxFiles = 1 << 18
	// maxDepth bounds how deep directories are followed.
	maxDepth = 256
	// maxLinked bounds the files with several names that are told apart.
	maxLinked = 1 << 20
)

// File is one file that differs.
type File struct {
	Kind Kind   `json:"kind"`
	Path string `json:"path"`
	// Type is file, directory, link, ..., of the image that has it; of b if both do.
	Type string `json:"type"`
	// SizeA and SizeB are in bytes, of regular files.
	SizeA int64 `json:"sizeA,omitempty"`
	SizeB int64 `json:"sizeB,omitempty"`
	// Attributes are what differs of a changed file.
	Attributes []Change `json:"attributes,omitempty"`
}

// TimesOnly reports whether nothing but the file's time differs.
func (f File) TimesOnly() bool {
	return f.Kind == Changed && !slices.ContainsFunc(f.Attributes, func(c Change) bool { return c.Name != timeAttribute })
}

// Names of attributes.
const (
	timeAttribute    = "time"
	contentAttribute = "content"
)

// FileCounts count files by how they differ.
type FileCounts struct {
	Added     int64 `json:"added"`
	Removed   int64 `json:"removed"`
	Changed   int64 `json:"changed"`
	TimesOnly int64 `json:"timesOnly"`
}

// walk goes through two trees side by side.
type walk struct {
	ctx     context.Context
	report  *Report
	pages   *pages
	changed int64 // S
	// shared are the first paths of files with several names, on each side.
	shared [2]map[inode]string
	prefix string
}

// inode tells the files of an image apart.
type inode struct {
	volume int64
	number uint64
}

// images compares all files of two images: those of the tree that the node
// sees, then those of other file systems, by the partitions' names.
func (w *walk) images(a, b *side) error {
	trees, names := map[string][2]*imagefs.Tree{}, []string{}
	for i, s := range []*side{a, b} {
		for _, t := range s.image.Trees() {
			pair, seen := trees[t.Name]
			if !seen {
				names = append(names, t.Name)
			}
			pair[i] = t.Tree
			trees[t.Name] = pair
		}
	}
	for _, name := range names {
		w.prefix = prefix(name)
		w.shared = [2]map[inode]string{{}, {}}
		var roots [2]*imagefs.File
		for i, t := range trees[name] {
			if t != nil {
				root := t.Root()
				roots[i] = &root
			}
		}
		if err := w.compare(roots[0], roots[1], 0); err != nil {
			return err
		}
	}
	return nil
}

// prefix stands before the paths of a tree.
func prefix(tree string) string {
	if tree == "" {
		return ""
	}
	return tree + ":"
}

// compare compares what two trees have at one path; nil stands for nothing.
func (w *walk) compare(a, b *imagefs.File, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	switch {
	case a == nil && b == nil:
		return nil
	case depth > maxDepth:
		return fmt.Errorf("%s: directories are nested too deeply", either(a, b).Path())
	case a == nil || b == nil:
		return w.oneSided(a, b, depth)
	}
	f := File{Kind: Changed, Path: w.prefix + b.Path(), Type: typeName(b.Stat().Mode)}
	if err := w.attributes(&f, *a, *b); err != nil {
		return err
	}
	if len(f.Attributes) > 0 {
		w.note(f)
	}
	return w.children(a, b, depth)
}

// either returns the file that is there.
func either(a, b *imagefs.File) *imagefs.File {
	if a != nil {
		return a
	}
	return b
}

// oneSided notes what only one image has, and everything below it.
func (w *walk) oneSided(a, b *imagefs.File, depth int) error {
	file := either(a, b)
	stat := file.Stat()
	f := File{Kind: Removed, Path: w.prefix + file.Path(), Type: typeName(stat.Mode)}
	index, size := 0, &f.SizeA
	if b != nil {
		f.Kind, index, size = Added, 1, &f.SizeB
	}
	if stat.Mode.IsRegular() {
		*size = stat.Size
		if w.first(index, *file) == "" {
			w.changed += roundUp(stat.Size)
		}
	}
	w.note(f)
	return w.children(a, b, depth)
}

// children compares two directories' content; what is none has none.
func (w *walk) children(a, b *imagefs.File, depth int) error {
	var directories [2]*imagefs.Directory
	names := map[string]bool{}
	for i, f := range []*imagefs.File{a, b} {
		if f == nil || !f.Stat().Mode.IsDir() {
			continue
		}
		d, err := f.Directory()
		if err != nil {
			w.unreadable(err)
			continue
		}
		directories[i] = d
		for _, name := range d.Names {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var files [2]*imagefs.File
		for i, d := range directories {
			if d == nil {
				continue
			}
			f, err := d.Open(name)
			switch {
			case err == nil:
				files[i] = &f
			case !errors.Is(err, fs.ErrNotExist):
				w.unreadable(err)
			}
		}
		if err := w.compare(files[0], files[1], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// unreadable notes what is damaged, for a bounded number of times.
func (w *walk) unreadable(err error) {
	const maxNotes = 100
	if len(w.report.Notes) < maxNotes {
		w.report.Notes = append(w.report.Notes, err.Error())
	}
}

// note lists a file.
func (w *walk) note(f File) {
	c := &w.report.FileCounts
	switch {
	case f.Kind == Added:
		c.Added++
	case f.Kind == Removed:
		c.Removed++
	case f.TimesOnly():
		c.TimesOnly++
	default:
		c.Changed++
	}
	if len(w.report.Files) < maxFiles {
		w.report.Files = append(w.report.Files, f)
	}
}

// first returns the path under which a file with several names was seen before
// on one side, "" the first time.
func (w *walk) first(index int, f imagefs.File) string {
	stat := f.Stat()
	if stat.Links < 2 || stat.Mode.IsDir() || stat.Inode == 0 {
		return ""
	}
	key := inode{f.VolumeStart(), stat.Inode}
	if before, seen := w.shared[index][key]; seen {
		return before
	}
	if len(w.shared[index]) < maxLinked {
		w.shared[index][key] = f.Path()
	}
	return ""
}

// attributes compares everything that a file has.
func (w *walk) attributes(f *File, a, b imagefs.File) error {
	sa, sb := a.Stat(), b.Stat()
	differ := func(name, va, vb string) {
		if va != vb {
			f.Attributes = append(f.Attributes, Change{Changed, name, va, vb})
		}
	}
	differ("type", typeName(sa.Mode), typeName(sb.Mode))
	differ("mode", octal(sa.Mode), octal(sb.Mode))
	differ("owner", fmt.Sprintf("%d:%d", sa.UID, sa.GID), fmt.Sprintf("%d:%d", sb.UID, sb.GID))
	differ(timeAttribute, sa.ModTime.Format(time.RFC3339Nano), sb.ModTime.Format(time.RFC3339Nano))
	if !sa.Mode.IsDir() { // a directory's follow from what is in it
		differ("links", fmt.Sprint(sa.Links), fmt.Sprint(sb.Links))
	}
	firstA, firstB := w.first(0, a), w.first(1, b)
	differ("hard link", firstA, firstB)
	xa, err := a.Xattrs()
	if err != nil {
		w.unreadable(err)
	}
	xb, err := b.Xattrs()
	if err != nil {
		w.unreadable(err)
	}
	for _, c := range compareMaps(xa, xb) {
		f.Attributes = append(f.Attributes, Change{c.Kind, "xattr " + c.Name, hexText(c.A), hexText(c.B)})
	}
	if sa.Mode.Type() != sb.Mode.Type() {
		w.replaced(sa, sb, f, firstA != "", firstB != "")
		return nil
	}
	switch {
	case sa.Mode.Type() == fs.ModeSymlink:
		ta, errA := a.Target()
		tb, errB := b.Target()
		if err := errors.Join(errA, errB); err != nil {
			w.unreadable(err)
		}
		differ("target", ta, tb)
	case sa.Mode&fs.ModeDevice != 0:
		differ("device", fmt.Sprintf("%d:%d", sa.Major, sa.Minor), fmt.Sprintf("%d:%d", sb.Major, sb.Minor))
	case sa.Mode.IsRegular():
		return w.content(f, a, b, firstA != "" && firstB != "")
	}
	return nil
}

// replaced counts the bytes of a file that became something else, or was that.
func (w *walk) replaced(sa, sb volume.Stat, f *File, countedA, countedB bool) {
	if sa.Mode.IsRegular() {
		f.SizeA = sa.Size
		if !countedA {
			w.changed += roundUp(sa.Size)
		}
	}
	if sb.Mode.IsRegular() {
		f.SizeB = sb.Size
		if !countedB {
			w.changed += roundUp(sb.Size)
		}
	}
}

// content compares what two regular files hold; counted says that it was
// compared under another name.
func (w *walk) content(f *File, a, b imagefs.File, counted bool) error {
	f.SizeA, f.SizeB = a.Stat().Size, b.Stat().Size
	equal, err := w.sameContent(a, b)
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case err != nil:
		w.unreadable(fmt.Errorf("%s: %w", f.Path, err))
		equal = false
	}
	if equal {
		return nil
	}
	f.Attributes = append(f.Attributes, Change{Changed, contentAttribute, fmt.Sprint(f.SizeA), fmt.Sprint(f.SizeB)})
	if !counted {
		w.changed += roundUp(max(f.SizeA, f.SizeB))
	}
	return nil
}

// sameContent looks first at where the files lie: at the same places of blocks
// that don't differ they are equal, and nothing has to be read.
func (w *walk) sameContent(a, b imagefs.File) (bool, error) {
	size := a.Stat().Size
	if size != b.Stat().Size {
		return false, nil
	}
	ea, err := a.DiskExtents()
	if err != nil {
		return false, err
	}
	eb, err := b.DiskExtents()
	if err != nil {
		return false, err
	}
	if slices.Equal(ea, eb) && len(ea) > 0 && !slices.ContainsFunc(ea, func(e volume.Extent) bool { return w.pages.touches(e.Physical, e.Length) }) {
		return true, nil
	}
	ra, err := a.Content()
	if err != nil {
		return false, err
	}
	rb, err := b.Content()
	if err != nil {
		return false, err
	}
	if len(ea) == 0 && len(eb) == 0 { // all holes, or in the inodes
		size = min(size, inlineMax)
		return w.sameRange(ra, rb, 0, size)
	}
	for _, e := range data(ea, eb, size) {
		if equal, err := w.sameRange(ra, rb, e.Logical, e.Length); !equal || err != nil {
			return false, err
		}
	}
	return true, nil
}

// inlineMax is more than an inode and its attributes hold of a file.
const inlineMax = 128 << 10

// data lists the ranges of a file that are no hole on at least one side.
func data(a, b []volume.Extent, size int64) []volume.Extent {
	all := slices.SortedFunc(slices.Values(slices.Concat(a, b)), func(x, y volume.Extent) int {
		return int(min(max(x.Logical-y.Logical, -1), 1))
	})
	var out []volume.Extent
	end := int64(0)
	for _, e := range all {
		from, to := max(e.Logical, end), min(e.Logical+e.Length, size)
		if to > from {
			out = append(out, volume.Extent{Logical: from, Length: to - from})
			end = to
		}
	}
	return out
}

// sameRange compares a range of two contents.
func (w *walk) sameRange(a, b io.ReaderAt, offset, length int64) (bool, error) {
	const piece = 1 << 20
	left, right := make([]byte, min(piece, length)), make([]byte, min(piece, length))
	for done := int64(0); done < length; done += piece {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		n := min(piece, length-done)
		if k, err := a.ReadAt(left[:n], offset+done); int64(k) < n {
			return false, err
		}
		if k, err := b.ReadAt(right[:n], offset+done); int64(k) < n {
			return false, err
		}
		if !bytes.Equal(left[:n], right[:n]) {
			return false, nil
		}
	}
	return true, nil
}

func roundUp(size int64) int64 { return (size + pageSize - 1) / pageSize * pageSize }
