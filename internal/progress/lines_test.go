package progress

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPiecesOfAStreamBecomeLines(t *testing.T) {
	for name, test := range map[string]struct {
		pieces []string
		want   []string
	}{
		"whole lines":            {[]string{"a\nb\n"}, []string{"a", "b"}},
		"a line in pieces":       {[]string{"a", "b", "c\n"}, []string{"abc"}},
		"no newline at the end":  {[]string{"a\nb"}, []string{"a", "b"}},
		"an empty line":          {[]string{"\n"}, []string{""}},
		"colours":                {[]string{"\x1b[1;31mred\x1b[0m\n"}, []string{"red"}},
		"a progress bar":         {[]string{"10%\r50%\r", "100%\r\n"}, []string{"100%"}},
		"a title of the window":  {[]string{"\x1b]0;evil\x07text\n"}, []string{"text"}},
		"a cursor that moves":    {[]string{"\x1b[2J\x1b[Htext\x1b(B\n"}, []string{"text"}},
		"an escape by itself":    {[]string{"a\x1b\n"}, []string{"a"}},
		"controls":               {[]string{"a\x00\x07\x08b\tc\n"}, []string{"ab c"}},
		"text from the right":    {[]string{"a\u202eb\n"}, []string{"ab"}},
		"bytes of no characters": {[]string{"a\xff\xfeb\n"}, []string{"a\ufffdb"}},
		"a character in pieces":  {[]string{"\xe2\x9c", "\x93\n"}, []string{"✓"}},
	} {
		t.Run(name, func(t *testing.T) {
			var l lines
			var got []string
			for _, p := range test.pieces {
				got = append(got, l.add([]byte(p))...)
			}
			if got = append(got, l.flush()...); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestALineWithoutEndIsCutBetweenCharacters(t *testing.T) {
	var l lines
	text := "a" + strings.Repeat("✓", 3*maxLine)
	got := append(l.add([]byte(text)), l.flush()...)
	if len(got) < 9 || strings.Join(got, "") != text {
		t.Errorf("%d lines", len(got))
	}
	for _, part := range got {
		if len(part) > maxLine || !utf8.ValidString(part) {
			t.Errorf("a line of %d bytes", len(part))
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("a\r\x1b[31mb\n", 2)
	f.Add("\x1b]0;x", 1)
	f.Fuzz(func(t *testing.T, text string, at int) {
		var l lines
		at = min(max(at, 0), len(text))
		got := append(l.add([]byte(text[:at])), l.add([]byte(text[at:]))...)
		for _, line := range append(got, l.flush()...) {
			if strings.ContainsAny(line, "\x1b\r\n\x07\x08") || !utf8.ValidString(line) {
				t.Errorf("%q", line)
			}
		}
	})
}
