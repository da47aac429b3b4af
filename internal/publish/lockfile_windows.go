package publish

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"nodesmith.dev/nodesmith/internal/fault"
)

// lockFile locks an open file until it is closed or the process ends.
func lockFile(f *os.File) error {
	const wholeFile = ^uint32(0)
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, wholeFile, wholeFile, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return fault.New(fault.Usage, "wait for it, or end it and run this again", "another nodesmith publishes this image to the same place")
	}
	return err
}
