package diff

import (
	"context"
	"maps"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/imagefs/ext4"
)

// Class is one kind of content of differing blocks. A block that holds content
// of several classes counts in each.
type Class struct {
	Name   string `json:"name"`
	Blocks int64  `json:"blocks"`
	// Pages are the differing ones that belong to this class.
	Pages int64 `json:"pages"`
	// Paths are some of the files, those with the most pages first.
	Paths []ClassPath `json:"paths,omitempty"`
}

// ClassPath is a file that lies in differing blocks, in either image.
type ClassPath struct {
	Path  string `json:"path"`
	Pages int64  `json:"pages"`
}

const (
	// maxPaths bounds the paths that are listed of a class, maxCounted those
	// that are counted.
	maxPaths   = 20
	maxCounted = 1 << 16
	// maxClasses bounds the classes; a hostile image has many directories.
	maxClasses = 4096
)

// classifier says what lies in the pages that differ.
type classifier struct {
	pages *pages
	// names are the classes; known has, for each differing block, one more than
	// the index of each page's class: what is found first counts.
	names []string
	known map[int64]*[pagesInBlock]uint16
	paths map[string]map[string]int64 // by class
	total int
}

// index is the number by which known has a class.
func (c *classifier) index(class string) uint16 {
	at := slices.Index(c.names, class)
	if at < 0 {
		if len(c.names) == maxClasses {
			return c.index(c.names[0])
		}
		at = len(c.names)
		c.names = append(c.names, class)
	}
	return uint16(at) + 1
}

// classify looks at both images, the new one first.
func (c *classifier) classify(ctx context.Context, a, b *side) error {
	c.known, c.paths = map[int64]*[pagesInBlock]uint16{}, map[string]map[string]int64{}
	c.names = []string{"other classes"}
	for _, s := range []*side{b, a} {
		for i, p := range s.image.Table.Partitions {
			if err := c.layout(s.image, i, p); err != nil {
				return err
			}
		}
	}
	for _, s := range []*side{b, a} {
		for _, tree := range s.image.Trees() {
			if err := c.files(ctx, partitionNames(s.image), prefix(tree.Name), tree.Root(), 0); err != nil {
				return err
			}
		}
	}
	for _, s := range []*side{b, a} {
		c.rest(s.image)
	}
	return nil
}

// partitionNames names a disk's partitions, by where they start.
func partitionNames(image *imagefs.Image) map[int64]string {
	out := map[int64]string{}
	for _, p := range image.Table.Partitions {
		out[p.Start] = p.Label()
	}
	return out
}

// layout marks the regions of a file system that belong to no file.
func (c *classifier) layout(image *imagefs.Image, index int, p imagefs.Partition) error {
	system, ok := image.Volume(index).(*ext4.FS)
	if !ok {
		return nil
	}
	regions, err := system.Layout()
	if err != nil {
		return err
	}
	for _, r := range regions {
		c.mark(p.Start+r.Physical, r.Length, p.Label()+": "+r.Kind, "")
	}
	return nil
}

// files marks the content of all files and directories.
func (c *classifier) files(ctx context.Context, partitions map[int64]string, prefix string, f imagefs.File, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	directory := f.Stat().Mode.IsDir()
	extents, err := f.DiskExtents()
	if err != nil {
		return nil // a damaged file: the walk noted it
	}
	class := partitions[f.VolumeStart()] + ": "
	if directory {
		class += "directories"
	} else {
		class += "files below " + place(f.Path())
	}
	for _, e := range extents {
		c.mark(e.Physical, e.Length, class, prefix+f.Path())
	}
	if !directory || depth > maxDepth {
		return nil
	}
	d, err := f.Directory()
	if err != nil {
		return nil
	}
	for _, name := range d.Names {
		child, err := d.Open(name)
		if err != nil {
			continue
		}
		if err := c.files(ctx, partitions, prefix, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// places are directories that are named as they are; other files are named by
// the first two directories of their paths.
var places = []string{
	"/var/lib/containerd/io.containerd.content.v1.content", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs",
	"/var/lib/containerd", "/var/lib/dpkg", "/usr/lib/modules",
}

func place(path string) string {
	for _, p := range places {
		if strings.HasPrefix(path, p+"/") {
			return p
		}
	}
	parts := strings.SplitN(path, "/", 4) // "", first, second, rest
	return strings.Join(parts[:min(len(parts)-1, 3)], "/") + "/"
}

// rest marks what nothing else explained, by partition.
func (c *classifier) rest(image *imagefs.Image) {
	for _, p := range image.Table.Partitions {
		c.mark(p.Start, p.Size, p.Label()+": other", "")
	}
	c.mark(0, image.Size, "partition table and gaps", "")
}

// mark gives the differing pages of a range a class, if they have none yet.
func (c *classifier) mark(offset, length int64, class, path string) {
	if !c.pages.touches(offset, length) {
		return
	}
	marked, index := int64(0), c.index(class)
	c.pages.each(offset, length, func(page int64) {
		block := c.known[page/pagesInBlock]
		if block == nil {
			block = new([pagesInBlock]uint16)
			c.known[page/pagesInBlock] = block
		}
		if block[page%pagesInBlock] == 0 {
			block[page%pagesInBlock] = index
			marked++
		}
	})
	if marked == 0 || path == "" {
		return
	}
	if c.paths[class] == nil {
		c.paths[class] = map[string]int64{}
	}
	if _, counted := c.paths[class][path]; counted || c.total < maxCounted {
		if !counted {
			c.total++
		}
		c.paths[class][path] += marked
	}
}

// each calls visit for the differing pages of a range that are remembered.
func (p *pages) each(offset, length int64, visit func(page int64)) {
	first, last := offset/pageSize, (offset+length-1)/pageSize
	one := func(number int64, m mask) {
		for page := range int64(pagesInBlock) {
			if at := number*pagesInBlock + page; m.has(page) && at >= first && at <= last {
				visit(at)
			}
		}
	}
	if last/pagesInBlock-first/pagesInBlock > int64(len(p.blocks)) {
		for number, m := range p.blocks {
			if number >= first/pagesInBlock && number <= last/pagesInBlock {
				one(number, m)
			}
		}
		return
	}
	for number := first / pagesInBlock; number <= last/pagesInBlock; number++ {
		if m, differs := p.blocks[number]; differs {
			one(number, m)
		}
	}
}

// classes sums up what was marked, by name.
func (c *classifier) classes() []Class {
	all := map[string]*Class{}
	for _, block := range c.known {
		seen := map[uint16]bool{}
		for _, index := range block {
			if index == 0 {
				continue
			}
			name := c.names[index-1]
			if all[name] == nil {
				all[name] = &Class{Name: name}
			}
			all[name].Pages++
			if !seen[index] {
				all[name].Blocks++
				seen[index] = true
			}
		}
	}
	out := make([]Class, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		class := *all[name]
		for path, n := range c.paths[name] {
			class.Paths = append(class.Paths, ClassPath{path, n})
		}
		slices.SortFunc(class.Paths, func(x, y ClassPath) int {
			if x.Pages != y.Pages {
				return int(y.Pages - x.Pages)
			}
			return strings.Compare(x.Path, y.Path)
		})
		class.Paths = class.Paths[:min(len(class.Paths), maxPaths)]
		out = append(out, class)
	}
	return out
}
