// Package lazyregexp compiles regular expressions when they are first used.
//
// What comes in is an expression; what goes out is what package regexp makes of it.
// Dozens of expressions, of which a command uses a few, would else be a third of
// the time in which it starts. In the programs of tests they are compiled at once,
// so that a wrong one fails there, as with the package of this name in Go's own
// tree.
package lazyregexp

import (
	"os"
	"regexp"
	"strings"
	"sync"
)

// inTest says whether this is the program of a test.
var inTest = strings.HasSuffix(strings.TrimSuffix(os.Args[0], ".exe"), ".test")

// Regexp is an expression that is compiled at its first use. It is safe for
// concurrent use.
type Regexp struct {
	text string
	get  func() *regexp.Regexp
}

// New returns an expression, which has to be right: its first use panics otherwise.
func New(text string) *Regexp {
	r := &Regexp{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
	if inTest {
		r.get()
	}
	return r
}

// String returns the expression.
func (r *Regexp) String() string { return r.text }

// Match says whether data contains a match, MatchString whether text does.
func (r *Regexp) Match(data []byte) bool       { return r.get().Match(data) }
func (r *Regexp) MatchString(text string) bool { return r.get().MatchString(text) }

// FindSubmatch returns the first match in data and its groups; nil for none.
func (r *Regexp) FindSubmatch(data []byte) [][]byte { return r.get().FindSubmatch(data) }

// FindStringSubmatch is FindSubmatch of a text.
func (r *Regexp) FindStringSubmatch(text string) []string { return r.get().FindStringSubmatch(text) }

// ReplaceAllString returns text with replacements for its matches.
func (r *Regexp) ReplaceAllString(text, replacement string) string {
	return r.get().ReplaceAllString(text, replacement)
}
