//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// writable says why no file can be made in a folder.
func writable(folder string) error {
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write", Path: folder, Err: err}
	}
	return nil
}
