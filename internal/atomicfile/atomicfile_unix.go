//go:build !windows

package atomicfile

import (
	"cmp"
	"io/fs"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// File is a file on its way. CloseAtomicallyReplace gives it its name, Cleanup
// removes it if it has none.
type File = renameio.PendingFile

// New creates a file that will replace path. perm is less the umask. It lies in dir
// until then, which is on path's file system; "" is path's own directory.
func New(path, dir string, perm fs.FileMode) (*File, error) {
	return renameio.NewPendingFile(path, renameio.WithTempDir(cmp.Or(dir, filepath.Dir(path))), renameio.WithPermissions(perm))
}
