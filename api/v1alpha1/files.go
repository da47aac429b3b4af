package v1alpha1

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// mountedOver are the directories that a booting node mounts a file system
// over, so that files of the image in them would never be seen.
var mountedOver = []string{"/dev", "/proc", "/run", "/sys"}

// files checks the files that the image shall hold.
func (c *checker) files(spec *Spec, buildContext fs.FS) {
	for i, file := range spec.Files {
		at := fmt.Sprintf("spec.files[%d]", i)
		if c.filePath(at+".path", file.Path) {
			c.claim(at+".path", file.Path, aFile)
		}
		before := len(c.errs)
		switch {
		case file.Content != nil && file.Source != "":
			c.add(FieldError{Field: at, Problem: "has both content and source", Allowed: []string{"exactly one of content, source"}})
		case file.Content == nil && file.Source == "":
			c.add(FieldError{Field: at, Problem: "has neither content nor source", Allowed: []string{"exactly one of content, source"}})
		}
		if file.Content != nil && !contentSyntax.ok(*file.Content) {
			c.add(FieldError{Field: at + ".content", Found: "the content", Problem: "is not " + contentSyntax.what, Allowed: []string{contentSyntax.allowed}})
		}
		if file.Source != "" {
			c.source(at+".source", file.Source, buildContext)
		}
		if file.Template && len(c.errs) == before {
			c.template(at, file, spec, buildContext)
		}
		c.matches(at+".mode", file.Mode, modeSyntax)
		c.matches(at+".owner", file.Owner, ownerSyntax)
	}
}

// claim says which field puts a path into the image, and what it will be there.
type claim struct{ field, kind string }

// What a path can be.
const (
	aFile      = "a file"
	aLink      = "a link"
	aDirectory = "a directory"
)

// claim notes that a field puts a path into the image, or reports that another
// one does.
func (c *checker) claim(at, p, kind string) {
	if first, ok := c.paths[p]; ok {
		c.add(FieldError{Field: at, Found: quote(p), Problem: "is there twice; first as " + first.field})
		return
	}
	c.paths[p] = claim{at, kind}
}

// nesting reports paths below one that is no directory.
func (c *checker) nesting() {
	for _, p := range slices.Sorted(maps.Keys(c.paths)) {
		for dir := path.Dir(p); len(dir) > 1; dir = path.Dir(dir) {
			if other, ok := c.paths[dir]; ok && other.kind != aDirectory {
				c.add(FieldError{Field: c.paths[p].field, Found: quote(p), Problem: "lies below " + other.kind + ": " + other.field})
			}
		}
	}
}

// filePath checks the path of a file in the image.
func (c *checker) filePath(at, p string) bool {
	if !c.matches(at, p, pathSyntax) {
		if clean := path.Clean("/" + p); p != "" && pathSyntax.ok(clean) {
			c.errs[len(c.errs)-1].Suggestion = clean
		}
		return false
	}
	for _, dir := range mountedOver {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			c.add(FieldError{
				Field: at, Found: quote(p), Problem: "would never be seen: the node mounts a file system over " + dir,
				Allowed: []string{"a path outside " + strings.Join(mountedOver, ", ")},
			})
			return false
		}
	}
	return true
}

// source checks that a file is there in the build context.
func (c *checker) source(at, source string, buildContext fs.FS) {
	bad := FieldError{Field: at, Found: quote(source)}
	if !c.inContext(&bad, source) || buildContext == nil {
		return
	}
	info, err := fs.Stat(buildContext, source)
	switch {
	case err != nil:
		c.unreadable(&bad, source, err, buildContext)
		return
	case info.IsDir():
		bad.Problem, bad.Allowed = "is a folder, which spec.directories copies", []string{"a regular file of the build context"}
	case !info.Mode().IsRegular():
		bad.Problem, bad.Allowed = "is not a regular file", []string{"a regular file of the build context"}
	default:
		return
	}
	c.add(bad)
}

// inContext checks that a path may name something in the build context.
func (c *checker) inContext(bad *FieldError, source string) bool {
	if sourceSyntax.ok(source) && fs.ValidPath(source) && source != "." {
		return true
	}
	bad.Problem, bad.Allowed = "is not "+sourceSyntax.what, []string{sourceSyntax.allowed}
	if clean := path.Clean(source); clean != "." && clean != source && fs.ValidPath(clean) {
		bad.Suggestion = clean
	}
	c.add(*bad)
	return false
}

// unreadable reports what is not in the build context or can't be read.
func (c *checker) unreadable(bad *FieldError, source string, err error, buildContext fs.FS) {
	bad.Problem = fmt.Sprintf("can't be read from the build context: %v", err)
	if errors.Is(err, fs.ErrNotExist) {
		bad.Problem, bad.Suggestion = "is not in the build context", nearestFile(buildContext, source)
	}
	c.add(*bad)
}

// nearestFile returns the file or folder beside a missing one whose name is
// nearest, or "".
func nearestFile(buildContext fs.FS, source string) string {
	entries, err := fs.ReadDir(buildContext, path.Dir(source))
	if err != nil {
		return ""
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() || entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	if name := nearest(path.Base(source), names); name != "" {
		return path.Join(path.Dir(source), name)
	}
	return ""
}
