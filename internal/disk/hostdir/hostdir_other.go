//go:build !linux

package hostdir

import (
	"context"
	"errors"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
)

// Entries says that it can't: disks are assembled by a step, on Linux.
func Entries(context.Context, string) ([]ext4.Entry, error) { return nil, errors.ErrUnsupported }
