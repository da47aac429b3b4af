//go:build !linux

package install

import (
	"errors"
	"os"
)

// makeQueue: steps run on Linux.
func makeQueue(string) (*os.File, error) { return nil, errors.ErrUnsupported }
