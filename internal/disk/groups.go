package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
)

// static is what only an installation writes: all that is in a package's own
// directory there is the package's, such as what was compiled when it was
// installed. Elsewhere programs put what is everyone's into their directories.
const static = "/usr/"

// owners are the groups of files (ext4.Entry.Group), by absolute path: the names
// of the lists that have them. What several have is nobody's.
type owners map[string]string

const nobody = ""

// group gives the files of all file systems their groups, as the lists of their
// trees say. Their order does not matter.
func (c *Config) group(contents []content) error {
	if c.FileLists == "" {
		return nil
	}
	files := c.files(contents)
	owner, err := c.readLists(files)
	if err != nil {
		return err
	}
	groups := map[string]string{} // of directories
	for _, f := range files {
		f.Group = c.groupOf(f, owner, groups[path.Dir(f.name)])
		if f.Mode.IsDir() {
			groups[f.name] = f.Group
		}
		switch {
		case slices.Contains(c.Added, f.Group):
			f.Class = addedClass
		case classes[f.Class].loose && f.Mode.IsDir():
			f.Class = classOf(rootDir)
		case classes[f.Class].loose:
			f.Group = nobody
		}
	}
	return nil
}

// namedEntry is an entry with its absolute path.
type namedEntry struct {
	name string
	*ext4.Entry
}

// files lists the entries of all file systems, directories before what is in them.
func (c *Config) files(contents []content) []namedEntry {
	var files []namedEntry
	for i, p := range c.Partitions {
		for k := range contents[i].entries {
			e := &contents[i].entries[k]
			files = append(files, namedEntry{path.Join(p.FileSystem.MountPoint, e.Path), e})
		}
	}
	slices.SortFunc(files, func(a, b namedEntry) int { return strings.Compare(a.name, b.name) })
	return files
}

// groupOf returns the group of a file. Directories are a package's where packages
// alone put things: those of other classes are there before what is added.
func (c *Config) groupOf(f namedEntry, owner owners, parents string) string {
	group, listed := owner[f.name]
	if !listed && strings.HasPrefix(f.name, static) {
		group = parents
	}
	if !f.Mode.IsDir() {
		return group
	}
	isStatic := strings.HasPrefix(f.name, static) && classOf(f.name) == classOf(rootDir)
	if isStatic || classes[classOf(f.name)].loose && slices.Contains(c.Added, group) {
		return group
	}
	return nobody
}

// add enters a file of a group.
func (o owners) add(name, group string) {
	if was, listed := o[name]; listed && was != group {
		group = nobody
	}
	o[name] = group
}

// readLists reads the lists. What was added gets only what no other list has: the
// groups of the operating system are the same without it.
func (c *Config) readLists(files []namedEntry) (owners, error) {
	system, added := owners{}, owners{}
	at := newDirectories(files)
	for _, f := range files {
		if path.Dir(f.name) != path.Dir(c.FileLists) {
			continue
		}
		// What is added has its list, and the files beside it that differ in their
		// extensions; those of the operating system are a group by themselves.
		group, owner := strings.TrimSuffix(path.Base(f.name), path.Ext(f.name)), system
		if slices.Contains(c.Added, group) {
			owner = added
			owner.add(f.name, group)
		} else {
			owner.add(f.name, path.Dir(f.name))
		}
		isList, err := path.Match(c.FileLists, f.name)
		if err != nil {
			return nil, fmt.Errorf("lists of files %s: %w", c.FileLists, err)
		}
		if !isList || f.Content == nil {
			continue
		}
		err = eachLine(f.Content, func(line string) {
			if path.IsAbs(line) {
				line = path.Clean(line)
				owner.add(path.Join(at.resolve(path.Dir(line)), path.Base(line)), group)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list of files %s: %w", f.name, err)
		}
	}
	maps.Copy(added, system)
	return added, nil
}

func eachLine(content ext4.Content, do func(string)) (err error) {
	file, err := content.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(io.NewSectionReader(file, 0, content.Size()))
	for lines.Scan() {
		do(lines.Text())
	}
	return lines.Err()
}

// directories knows where directories are that are named by way of links, such as
// /lib of packages that are older than a distribution's /usr/lib.
type directories struct {
	targets map[string]string // of links
	known   map[string]string
}

func newDirectories(files []namedEntry) *directories {
	d := &directories{map[string]string{}, map[string]string{rootDir: rootDir}}
	for _, f := range files {
		if f.Target != "" {
			d.targets[f.name] = f.Target
		}
	}
	return d
}

// resolve follows the links on the way to a directory; one that leads in a circle
// leads where it is.
func (d *directories) resolve(dir string) string {
	if at, known := d.known[dir]; known {
		return at
	}
	d.known[dir] = dir
	at := path.Join(d.resolve(path.Dir(dir)), path.Base(dir))
	if target, isLink := d.targets[at]; isLink {
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(at), target)
		}
		at = d.resolve(path.Clean(target))
	}
	d.known[dir] = at
	return at
}
