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
func (c *checker) files(files []File, buildContext fs.FS) {
	seen := map[string]string{}
	for i, file := range files {
		at := fmt.Sprintf("spec.files[%d]", i)
		if c.filePath(at+".path", file.Path) {
			c.repeated(seen, at+".path", file.Path, file.Path)
		}
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
		c.matches(at+".mode", file.Mode, modeSyntax)
		c.matches(at+".owner", file.Owner, ownerSyntax)
	}
	for _, p := range slices.Sorted(maps.Keys(seen)) {
		for dir := path.Dir(p); len(dir) > 1; dir = path.Dir(dir) {
			if other, ok := seen[dir]; ok {
				c.add(FieldError{Field: seen[p], Found: quote(p), Problem: "lies below a file: " + other})
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
	if !sourceSyntax.ok(source) || !fs.ValidPath(source) || source == "." {
		bad.Problem, bad.Allowed = "is not "+sourceSyntax.what, []string{sourceSyntax.allowed}
		if clean := path.Clean(source); clean != "." && clean != source && fs.ValidPath(clean) {
			bad.Suggestion = clean
		}
		c.add(bad)
		return
	}
	if buildContext == nil {
		return
	}
	info, err := fs.Stat(buildContext, source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		bad.Problem = "is not in the build context"
		bad.Suggestion = nearestFile(buildContext, source)
	case err != nil:
		bad.Problem = fmt.Sprintf("can't be read from the build context: %v", err)
	case !info.Mode().IsRegular():
		bad.Problem, bad.Allowed = "is not a regular file", []string{"a regular file of the build context"}
	default:
		return
	}
	c.add(bad)
}

// nearestFile returns the file beside a missing one whose name is nearest, or "".
func nearestFile(buildContext fs.FS, source string) string {
	entries, err := fs.ReadDir(buildContext, path.Dir(source))
	if err != nil {
		return ""
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	if name := nearest(path.Base(source), names); name != "" {
		return path.Join(path.Dir(source), name)
	}
	return ""
}
