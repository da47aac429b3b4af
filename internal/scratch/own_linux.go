package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// temporaryVariable names the folder that os.TempDir returns, and other programs use.
const temporaryVariable = "TMPDIR"

// Own makes a folder that os.TempDir returns from now on, in this process and in those
// that it starts, and returns what removes it. It begins by removing the folders that
// killed processes left. Call it before anything else uses os.TempDir. A process that
// such a process starts has its own beside it, not in it: paths of sockets stay short.
func Own() (end func() error, err error) {
	before, had := os.LookupEnv(temporaryVariable)
	parent := os.TempDir()
	if strings.HasPrefix(filepath.Base(parent), Prefix) {
		parent = filepath.Dir(parent)
	}
	d, err := New(parent, Prefix)
	if err != nil {
		return nil, err
	}
	if err := os.Setenv(temporaryVariable, d.Path()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() error {
		reset := os.Unsetenv(temporaryVariable)
		if had {
			reset = os.Setenv(temporaryVariable, before)
		}
		return errors.Join(reset, d.Close())
	}, nil
}
