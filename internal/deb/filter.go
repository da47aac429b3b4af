package deb

import (
	"regexp"
	"strings"
)

// Filter says which files of packages are not unpacked, as dpkg's
// --path-exclude and --path-include do (dpkg(1)).
type Filter struct{ exclude, include []*regexp.Regexp }

// NewFilter makes a Filter of shell patterns for absolute paths in which *
// stands for any text, slashes too. What include matches is kept.
func NewFilter(exclude, include []string) Filter {
	return Filter{exclude: compile(exclude), include: compile(include)}
}

func compile(patterns []string) []*regexp.Regexp {
	var compiled []*regexp.Regexp
	for _, p := range patterns {
		compiled = append(compiled, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")+"$"))
	}
	return compiled
}

func (f Filter) leavesOut(path string) bool {
	return matches(f.exclude, path) && !matches(f.include, path)
}

func matches(patterns []*regexp.Regexp, path string) bool {
	for _, p := range patterns {
		if p.MatchString(path) {
			return true
		}
	}
	return false
}
