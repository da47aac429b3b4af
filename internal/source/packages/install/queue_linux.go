package install

import (
	"os"

	"golang.org/x/sys/unix"
)

// makeQueue makes a FIFO that is open on both ends, so that it never ends while
// nobody writes.
func makeQueue(path string) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}
