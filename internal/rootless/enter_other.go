//go:build !linux

package rootless

import (
	"errors"
	"io"
)

// Needed says no: where there are no user namespaces, steps run elsewhere.
func Needed() bool { return false }

// Enter is never called.
func Enter(string) error { return errors.ErrUnsupported }

// Child says that this is no such process.
func Child(io.Writer) (int, bool) { return 0, false }
