//go:build unix

package publish

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
)

// lockFile locks an open file until it is closed or the process ends.
func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fault.New(fault.Usage, "wait for it, or end it and run this again", "another nodesmith publishes this image to the same place")
	}
	return err
}
