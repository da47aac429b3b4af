package golang

import (
	"bytes"
	"io"
)

// filter passes whole lines on to w, except those that begin with drop.
type filter struct {
	w       io.Writer
	drop    string
	partial []byte // a line whose end was not written yet
}

func (f *filter) Write(p []byte) (int, error) {
	f.partial = append(f.partial, p...)
	for {
		i := bytes.IndexByte(f.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := f.partial[:i+1]
		f.partial = f.partial[i+1:]
		if bytes.HasPrefix(line, []byte(f.drop)) {
			continue
		}
		if _, err := f.w.Write(line); err != nil {
			return 0, err
		}
	}
}

// Close writes what is left of a last line without an end.
func (f *filter) Close() error {
	_, err := f.w.Write(f.partial)
	f.partial = nil
	return err
}
