// Package deb reads Debian's formats: control stanzas (deb822), package
// indices, dependency fields and .deb archives.
//
// What comes in are bytes that were verified or are about to be; what goes out
// are plain structs. Nothing here touches the network or trusts a length.
package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds one line of a control file (bytes). The longest in Debian's
// indices, a Provides field, is under 64 KiB.
const maxLine = 4 << 20

// Stanza is one paragraph of a control file: field name to value. A value of
// several lines keeps its line breaks (deb822(5)).
type Stanza map[string]string

// Stanzas calls yield for every paragraph of r, in order, until it returns
// false or an error. Field names keep their spelling.
func Stanzas(r io.Reader, yield func(Stanza) (more bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	current, field, number := Stanza{}, "", 0
	for lines.Scan() {
		number++
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "":
			if len(current) > 0 {
				if more, err := yield(current); err != nil || !more {
					return err
				}
				current, field = Stanza{}, ""
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return fmt.Errorf("line %d: a continuation line follows no field", number)
			}
			current[field] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" {
				return fmt.Errorf("line %d: %.40q is not a field", number, line)
			}
			field = name
			current[field] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("line %d: longer than %d bytes", number+1, maxLine)
		}
		return err
	}
	if len(current) > 0 {
		_, err := yield(current)
		return err
	}
	return nil
}
