package display

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Control sequences (ECMA-48 sections 8.3.22 and 8.3.39, and the DEC private mode
// of the cursor).
const (
	hideCursor   = "\x1b[?25l"
	showCursor   = "\x1b[?25h"
	eraseBelow   = "\x1b[J"
	eraseToRight = "\x1b[K"
)

// screen is the part of a terminal, at its cursor, that frames are drawn on.
type screen struct {
	terminal Terminal
	drawn    []string // the last frame
}

// draw writes text that stays, and the frame below it in place of the last one.
// The cursor is left behind the frame, visible at all times between two calls: a
// process that is killed leaves a terminal that can be used.
func (s *screen) draw(text, frame []string, size Size) {
	if len(text) == 0 && slices.Equal(frame, s.drawn) {
		return
	}
	var b strings.Builder
	b.WriteString(hideCursor + "\r")
	if up := s.rows(size.Columns); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	for _, l := range slices.Concat(text, frame) {
		b.WriteString(l + eraseToRight + "\r\n")
	}
	b.WriteString(eraseBelow + showCursor)
	s.drawn = frame
	_, _ = s.terminal.Write([]byte(b.String())) // progress that can't be shown stops nothing
}

// rows is how many rows the last frame takes up now: a terminal that became
// narrower has wrapped it.
func (s *screen) rows(columns int) (rows int) {
	for _, l := range s.drawn {
		rows++
		if wide := columnsOf([]piece{{text: colours.ReplaceAllString(l, "")}}); columns > 0 && wide > 0 {
			rows += (wide - 1) / columns
		}
	}
	return rows
}

// colours are the only control sequences in frames.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
