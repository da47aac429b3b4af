package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem writes back the file system that holds dir: one call for
// thousands of blobs, each of which would cost a commit of its journal else.
func syncFileSystem(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}
