package progress

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a line of output, in bytes: what is longer becomes several.
const maxLine = 4096

// lines cuts a stream into lines.
type lines struct{ rest []byte }

// add takes a piece of the stream and returns the lines that it ends.
func (l *lines) add(data []byte) (whole []string) {
	l.rest = append(l.rest, data...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		next := end + 1
		if end < 0 {
			if len(l.rest) < maxLine {
				return whole
			}
			end = runeStart(l.rest, maxLine)
			next = end
		}
		whole = append(whole, clean(l.rest[:end]))
		l.rest = append(l.rest[:0], l.rest[next:]...)
	}
}

// flush returns the line that the stream ended in the middle of, if any.
func (l *lines) flush() (whole []string) {
	if len(l.rest) > 0 {
		whole = append(whole, clean(l.rest))
	}
	l.rest = nil
	return whole
}

// runeStart is where the character begins that the byte at most is of.
func runeStart(data []byte, most int) int {
	for at := most - 1; at > most-utf8.UTFMax; at-- {
		if utf8.RuneStart(data[at]) {
			if utf8.FullRune(data[at:most]) {
				return most
			}
			return at
		}
	}
	return most
}

// escapes are the control sequences of terminals (ECMA-48 section 5.4; OSC and
// the like end with BEL or ST).
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[PX\]^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])`)

// clean is a line as a terminal would show it at last: what was overwritten after
// a carriage return is gone, and so is what would move the cursor or do worse.
func clean(line []byte) string {
	text := strings.ToValidUTF8(string(line), "\ufffd")
	text = strings.TrimRight(escapes.ReplaceAllString(text, ""), "\r")
	text = text[strings.LastIndexByte(text, '\r')+1:]
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
}

// sentence is a text of several lines as one.
func sentence(text string) string { return clean([]byte(strings.Join(strings.Fields(text), " "))) }
