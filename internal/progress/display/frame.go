package display

import (
	"fmt"
	"strings"
	"time"
)

const (
	// maxColumns is how far apart a line's ends may be to be read as one.
	maxColumns = 100
	// indent is how far a stage's steps stand to the right of it.
	indent = "  "
)

// marks begin a stage's line.
var marks = struct{ waiting, running, done, failed piece }{
	piece{"·", dim}, piece{"▸", cyan}, piece{"✓", green}, piece{"✗", red},
}

// Size is that of a terminal.
type Size struct{ Columns, Rows int }

// Frame returns the lines that show the model at a time: no wider than the
// terminal, and fewer than it has, so that nothing scrolls.
func (m *Model) Frame(now time.Time, size Size, colour bool) []string {
	columns := min(size.Columns-1, maxColumns) // a full line would wrap in some terminals
	if columns < 1 {
		return nil
	}
	var lines []string
	for _, l := range m.lines(now, max(size.Rows-1, 1)) {
		lines = append(lines, l.render(columns, colour))
	}
	return lines
}

// lines fills the rows with what matters most: what is built, the stages, their
// running steps, and the last lines that those wrote.
func (m *Model) lines(now time.Time, rows int) []line {
	blocks := m.blocks(now)
	rows -= 1 // the title
	fit(blocks, rows)
	all := []line{m.heading(now)}
	for _, b := range blocks {
		if b.shown {
			all = append(all, b.line)
		}
		for _, s := range b.steps[:b.fit] {
			all = append(all, s.line)
			all = append(all, s.output[len(s.output)-s.fit:]...)
		}
		if more := len(b.steps) - b.fit; more > 0 && b.fit > 0 {
			all[len(all)-1] = line{left: []piece{{fmt.Sprintf("%sand %d more", indent, more+1), dim}}}
		}
	}
	return all[:min(len(all), rows+1)]
}

// block is a stage with its steps, as far as there is room for them.
type block struct {
	line    line
	waiting bool // nothing of it was begun
	shown   bool // its line is
	steps   []stepLines
	fit     int // of the steps
}

type stepLines struct {
	line   line
	output []line
	fit    int // of the output
}

// fit says what there is room for: first the lines of stages of which something
// runs and the steps, then the other stages, then output.
func fit(blocks []*block, rows int) {
	take := func(wanted func(*block) bool) {
		for _, b := range blocks {
			if !b.shown && b.line.left != nil && wanted(b) && rows > 0 {
				b.shown = true
				rows--
			}
		}
	}
	take(func(b *block) bool { return len(b.steps) > 0 })
	for _, b := range blocks {
		b.fit = min(len(b.steps), max(rows, 0))
		rows -= b.fit
	}
	take(func(b *block) bool { return !b.waiting })
	take(func(*block) bool { return true })
	for range keptLines {
		for _, b := range blocks {
			for i := range b.steps[:b.fit] {
				if s := &b.steps[i]; rows > 0 && s.fit < len(s.output) {
					s.fit++
					rows--
				}
			}
		}
	}
}

// blocks are the stages, and what is of none.
func (m *Model) blocks(now time.Time) []*block {
	var blocks []*block
	for _, s := range m.stages {
		b := &block{line: s.line(now, m.nameColumns()), waiting: s.running+s.done+s.cached+s.failed == 0}
		for _, step := range m.of(s.name) {
			b.steps = append(b.steps, step.lines(now))
		}
		blocks = append(blocks, b)
	}
	rest := &block{}
	for _, step := range m.of("") {
		rest.steps = append(rest.steps, step.lines(now))
	}
	return append(blocks, rest)
}

func (m *Model) nameColumns() (longest int) {
	for _, s := range m.stages {
		longest = max(longest, len(s.name))
	}
	return longest
}

// heading says what is built, and for how long.
func (m *Model) heading(now time.Time) line {
	l := line{left: []piece{{m.title, bold}}, right: []piece{{Duration(now.Sub(m.began)), normal}}}
	if m.Ending {
		l.left = append(l.left, piece{"  ending what runs", normal})
	}
	return l
}

// line is a stage in one line: what of it was done and what was there already.
func (s *stage) line(now time.Time, columns int) line {
	mark, name := marks.waiting, piece{fmt.Sprintf("%-*s", columns, s.name), dim}
	switch {
	case s.failed > 0:
		mark, name.style = marks.failed, red
	case s.running > 0:
		mark, name.style = marks.running, normal
	case s.done+s.cached > 0:
		mark, name.style = marks.done, normal
	}
	var said []string
	for _, of := range []struct {
		n    int
		what string
	}{{s.failed, "failed"}, {s.running, "running"}, {s.done, "done"}, {s.cached, "cached"}} {
		if of.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", of.n, of.what))
		}
	}
	if len(said) == 0 {
		name.text = s.name
	} else {
		name.text += "  "
	}
	l := line{left: []piece{mark, {" ", normal}, name, {strings.Join(said, ", "), dim}}}
	if took := s.elapsed(now); took > 0 {
		l.right = []piece{{Duration(took), normal}}
	}
	return l
}

// lines are a step, and what it wrote last.
func (s *step) lines(now time.Time) stepLines {
	name, took := normal, now.Sub(s.started)
	if s.failed {
		name, took = red, time.Duration(s.seconds*float64(time.Second))
	}
	l := stepLines{line: line{
		left:  []piece{{indent + s.title, name}},
		right: []piece{{s.bytes(took), dim}, {Duration(took), normal}},
	}}
	for _, text := range s.output {
		l.output = append(l.output, line{left: []piece{{indent + indent + text, dim}}})
	}
	return l
}

// bytes says how far a step is that moves bytes, two spaces behind it.
func (s *step) bytes(took time.Duration) string {
	if s.current == 0 && s.total == 0 {
		return ""
	}
	return far(s.current, s.total, took) + "  "
}
