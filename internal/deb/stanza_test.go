package deb

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func read(t *testing.T, text string) ([]Stanza, error) {
	t.Helper()
	var all []Stanza
	err := Stanzas(strings.NewReader(text), func(s Stanza) (bool, error) {
		all = append(all, s)
		return true, nil
	})
	return all, err
}

func TestStanzasReadsControlFiles(t *testing.T) {
	long := strings.Repeat("libfoo (= 1.0), ", 100_000)
	tests := map[string]struct {
		text string
		want []Stanza
	}{
		"two paragraphs":              {"Package: a\nVersion: 1\n\nPackage: b\n", []Stanza{{"Package": "a", "Version": "1"}, {"Package": "b"}}},
		"nothing":                     {"", nil},
		"only blank lines":            {"\n\n \n\t\n", nil},
		"many blank lines between":    {"\n\nPackage: a\n\n\n\nPackage: b\n\n\n", []Stanza{{"Package": "a"}, {"Package": "b"}}},
		"blanks separate, too":        {"Package: a\n \t\nPackage: b\n", []Stanza{{"Package": "a"}, {"Package": "b"}}},
		"no line break at the end":    {"Package: a\nVersion: 1", []Stanza{{"Package": "a", "Version": "1"}}},
		"lines end as on DOS":         {"Package: a\r\nVersion: 1\r\n\r\nPackage: b\r\n", []Stanza{{"Package": "a", "Version": "1"}, {"Package": "b"}}},
		"a comment in a value":        {"# top\nSHA256:\n aa 1 x\n# between\n bb 2 y\n", []Stanza{{"SHA256": "\naa 1 x\nbb 2 y"}}},
		"a tab continues":             {"Description: short\n\tlong\n .\n end\n", []Stanza{{"Description": "short\nlong\n.\nend"}}},
		"a colon in the value":        {"Homepage: https://example.org:80/\n", []Stanza{{"Homepage": "https://example.org:80/"}}},
		"no space after the colon":    {"Package:a\n", []Stanza{{"Package": "a"}}},
		"an empty value":              {"Package: a\nDepends:\n", []Stanza{{"Package": "a", "Depends": ""}}},
		"a line of more than 1 MiB":   {"Provides: " + long + "\n", []Stanza{{"Provides": strings.TrimSpace(long)}}},
		"a field name keeps its case": {"package: a\n", []Stanza{{"package": "a"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %.200q\nwant %.200q", got, test.want)
			}
		})
	}
}

func TestStanzasRefusesAndSaysWhere(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"no colon":                 {"Package: a\nVersion\n", `line 2: "Version" is not a field`},
		"no name":                  {": a\n", "line 1"},
		"continuation first":       {" a\n", "line 1: a continuation line follows no field"},
		"continuation after break": {"Package: a\n\n more\n", "line 3: a continuation line follows no field"},
		"endless line":             {"Package: a\nX: " + strings.Repeat("x", maxLine) + "\n", "line 2: longer than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := read(t, test.text); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestStanzasStopsWhenToldTo(t *testing.T) {
	const text = "Package: a\n\nPackage: b\n\nno field\n"
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		more bool
		err  error
	}{"false": {false, nil}, "error": {true, broken}} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := Stanzas(strings.NewReader(text), func(Stanza) (bool, error) { calls++; return test.more, test.err })
			if !errors.Is(err, test.err) || calls != 1 {
				t.Errorf("%d calls and error %v, want 1 and %v", calls, err, test.err)
			}
		})
	}
}

func TestStanzasReportsAReadError(t *testing.T) {
	r := io.MultiReader(strings.NewReader("Package: a\n"), failing{})
	if err := Stanzas(r, func(Stanza) (bool, error) { return true, nil }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want the reader's own", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func FuzzStanzas(f *testing.F) {
	f.Add("Package: a\nDepends: b | c (>= 1), d:any\n\nPackage: b\r\n# c\n x\n")
	f.Add("SHA256:\n aa 1 x\n\n \n")
	f.Fuzz(func(t *testing.T, text string) {
		var again strings.Builder
		var first []Stanza
		if Stanzas(strings.NewReader(text), func(s Stanza) (bool, error) {
			if len(s) == 0 {
				t.Error("an empty stanza")
			}
			first = append(first, s)
			for name, value := range s {
				if name == "" || strings.ContainsAny(name, "\n:") {
					t.Errorf("field name %q", name)
				}
				again.WriteString(name + ": " + strings.ReplaceAll(value, "\n", "\n ") + "\n")
				ParseDepends(value)
			}
			again.WriteString("\n")
			return true, nil
		}) != nil {
			return
		}
		// A continuation that holds only blanks ends the stanza when written
		// out, and a '#' in front of a name makes a comment: compare the rest.
		for _, s := range first {
			for name, value := range s {
				if strings.Contains(value+"\n", "\n\n") || strings.ContainsAny(name+value, "\r\v\f\u0085\u00a0") || name != strings.TrimSpace(name) {
					return
				}
			}
		}
		second, err := read(t, again.String())
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("read %q, written out and read again %q (%v)", first, second, err)
		}
	})
}
