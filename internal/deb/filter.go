package deb

import (
	"archive/tar"
	"regexp"
	"strings"
)

// Filter says which files of packages are not unpacked, as dpkg's
// --path-exclude and --path-include do (dpkg(1)).
type Filter struct {
	exclude, include []*regexp.Regexp
	// kept are what the included paths begin with, up to the first * and without
	// a slash at the end.
	kept []string
}

// NewFilter makes a Filter of shell patterns for absolute paths in which *
// stands for any text, slashes too. What include matches is kept.
func NewFilter(exclude, include []string) Filter {
	filter := Filter{exclude: compile(exclude), include: compile(include)}
	for _, p := range include {
		fixed, _, _ := strings.Cut(p, "*")
		filter.kept = append(filter.kept, strings.TrimRight(fixed, "/"))
	}
	return filter
}

func compile(patterns []string) []*regexp.Regexp {
	var compiled []*regexp.Regexp
	for _, p := range patterns {
		compiled = append(compiled, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")+"$"))
	}
	return compiled
}

// leavesOut takes the type of an archive's entry. A directory or a symbolic link
// in which an included file might lie is kept, as dpkg keeps it.
func (f Filter) leavesOut(path string, typeflag byte) bool {
	if !matches(f.exclude, path) || matches(f.include, path) {
		return false
	}
	if typeflag == tar.TypeDir || typeflag == tar.TypeSymlink {
		for _, prefix := range f.kept {
			if strings.HasPrefix(path, prefix) {
				return false
			}
		}
	}
	return true
}

func matches(patterns []*regexp.Regexp, path string) bool {
	for _, p := range patterns {
		if p.MatchString(path) {
			return true
		}
	}
	return false
}
