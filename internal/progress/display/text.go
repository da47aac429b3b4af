package display

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// Styles are the SGR parameters (ECMA-48 section 8.3.117) that frames use.
type style string

const (
	normal style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	cyan   style = "36"
)

// piece is some text in one style.
type piece struct {
	text  string
	style style
}

// line is what stands in one line: some of it at its beginning, some at its end.
type line struct{ left, right []piece }

// render returns the line for a terminal, no wider than columns. What does not fit
// between the two ends is cut off.
func (l line) render(columns int, colour bool) string {
	room := columns
	if len(l.right) > 0 {
		room -= columnsOf(l.right) + 1
	}
	left := cut(l.left, max(room, 0))
	var b strings.Builder
	write(&b, left, colour)
	if len(l.right) > 0 && room >= 0 {
		b.WriteString(strings.Repeat(" ", room-columnsOf(left)+1))
		write(&b, l.right, colour)
	}
	return b.String()
}

func write(b *strings.Builder, pieces []piece, colour bool) {
	for _, p := range pieces {
		if colour && p.style != normal {
			fmt.Fprintf(b, "\x1b[%sm%s\x1b[0m", p.style, p.text)
		} else {
			b.WriteString(p.text)
		}
	}
}

// cut returns pieces that take up no more than columns.
func cut(pieces []piece, columns int) []piece {
	if columnsOf(pieces) <= columns {
		return pieces
	}
	var kept []piece
	columns-- // of the ellipsis
	for _, p := range pieces {
		if columns < 0 {
			break
		}
		end := len(p.text)
		for i, r := range p.text {
			if columns -= columnsOfRune(r); columns < 0 {
				end = i
				break
			}
		}
		text := p.text[:end]
		if columns < 0 {
			text += "…"
		}
		kept = append(kept, piece{text, p.style})
	}
	return kept
}

func columnsOf(pieces []piece) (n int) {
	for _, p := range pieces {
		for _, r := range p.text {
			n += columnsOfRune(r)
		}
	}
	return n
}

// columnsOfRune is how many columns terminals give to a character (Unicode's
// Standard Annex 11).
func columnsOfRune(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r < 0x300:
		return 1
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	case width.Neutral, width.EastAsianAmbiguous, width.EastAsianNarrow, width.EastAsianHalfwidth:
	}
	return 1
}

// Duration is a time for people: to a tenth of a second, in minutes from one on.
func Duration(d time.Duration) string {
	if d < 59950*time.Millisecond {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Seconds is Duration for a number of seconds.
func Seconds(n float64) string { return Duration(time.Duration(n * float64(time.Second))) }

// Bytes is a size for people, in units of 1024.
func Bytes(n int64) string {
	const units = "KMGTPE"
	value, unit := float64(n), -1
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// worthAGuess is how long something has to be under way before it says how long it
// will be.
const worthAGuess = 3 * time.Second

// far says how much of total bytes is done after some time, and how long the rest will
// take at that rate. A total of 0 is unknown.
func far(current, total int64, took time.Duration) string {
	if total <= 0 {
		return Bytes(current)
	}
	text := Bytes(current) + " of " + Bytes(max(total, current))
	if took < worthAGuess || current <= 0 || current >= total {
		return text
	}
	left := time.Duration(float64(took) / float64(current) * float64(total-current))
	return text + ", " + left.Round(time.Second).String() + " left"
}
