package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"nodesmith.dev/nodesmith/internal/fault"
)

// maxFound bounds how much of a wrong value a message repeats, in characters.
const maxFound = 60

// FieldError is one thing that is wrong with a NodeImage. Its JSON form is part
// of the machine-readable output of nodesmith.
type FieldError struct {
	// File, Line and Column (both from 1; 0: unknown) say where it was found.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Flag is the --set flag that brought the value in, without its value; it
	// stands in place of File, Line and Column.
	Flag string `json:"flag,omitempty"`
	// Field is the path of the field: spec.files[0].path, spec.sysctls[vm.swappiness].
	// It is empty when the file as a whole is meant.
	Field string `json:"field,omitempty"`
	// Found is the offending value as one would write it: "debain" with its
	// quotes, 12.10, a list. It is empty when nothing was found.
	Found string `json:"found,omitempty"`
	// Problem says what is wrong with Found.
	Problem string `json:"problem"`
	// Allowed are the values that may stand there, or a description of them.
	Allowed []string `json:"allowed,omitempty"`
	// Suggestion is the allowed value nearest to what was found.
	Suggestion string `json:"suggestion,omitempty"`

	// onKey says that a field's name is wrong, not its value.
	onKey bool
	// asWritten says that Found is better replaced by the characters of the file.
	asWritten bool
	// lineOfText is the line of the field's text that is meant, from 1; 0: all.
	lineOfText int
	// flagIndex orders errors by the flag that they come from, from 1.
	flagIndex int
}

// Error returns the whole message on one line, its place first.
func (e *FieldError) Error() string {
	var b strings.Builder
	switch {
	case e.Flag != "":
		b.WriteString(e.Flag + ": ")
	case e.File != "" && e.Column > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	case e.File != "":
		b.WriteString(e.File + ": ")
	}
	// "--set spec.disk.size: spec.disk.size: ..." would say it twice.
	if e.Field != "" && e.Flag != setFlag(e.Field) {
		b.WriteString(e.Field + ": ")
	}
	if e.lineOfText > 0 {
		fmt.Fprintf(&b, "line %d: ", e.lineOfText)
	}
	if e.Found != "" {
		b.WriteString(e.Found + " ")
	}
	b.WriteString(e.Problem)
	if len(e.Allowed) > 0 {
		b.WriteString("; allowed: " + strings.Join(e.Allowed, ", "))
	}
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", e.Suggestion)
	}
	return printable(b.String())
}

// printable escapes what would break the line or command the terminal: names
// of fields come from the file as they are.
func printable(message string) string {
	var b strings.Builder
	for _, r := range message {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// ErrorList is everything that is wrong with a NodeImage, in the order of the
// file and then of the --set flags. errors.AsType[ErrorList] finds it in the
// errors that Load and Validate return.
type ErrorList []*FieldError

// Error returns one line for each entry.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// asFault sorts the list and returns it as an error of kind fault.BadSpec, or
// nil if the list is empty.
func (l ErrorList) asFault() error {
	if len(l) == 0 {
		return nil
	}
	slices.SortStableFunc(l, func(a, b *FieldError) int {
		return cmp.Or(
			cmp.Compare(a.flagIndex, b.flagIndex),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Field, b.Field),
		)
	})
	return fault.New(fault.BadSpec, "correct what is named; `nodesmith validate` checks a spec without building it", "%w", l)
}

// setFlag returns how messages name the --set flag for a path. The value is
// left out: it may be long, or secret.
func setFlag(path string) string { return strings.TrimSpace("--set " + path) }

// quote returns a value as messages show it: quoted, and cut if it is long.
func quote(value string) string {
	if utf8.RuneCountInString(value) <= maxFound {
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%q", string([]rune(value)[:maxFound])+"...")
}
