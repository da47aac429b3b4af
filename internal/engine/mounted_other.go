//go:build !linux

package engine

import (
	"errors"

	"github.com/containerd/containerd/v2/core/mount"
)

// mounted is never called: there is no engine here that hands out mounts.
func mounted([]mount.Mount) (dir string, unmount func() error, err error) {
	return "", nil, errors.ErrUnsupported
}
