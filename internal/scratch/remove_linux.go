package scratch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// remove removes the folder, but nothing that is mounted in it: a killed engine leaves
// its results so, whose files are the engine's.
func remove(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return os.RemoveAll(path)
	}
	inside, err := mountinfo.GetMounts(mountinfo.PrefixFilter(resolved))
	if err != nil {
		return fmt.Errorf("what is mounted in %s: %w", path, err)
	}
	for _, m := range slices.Backward(inside) { // the last one lies on top
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return os.RemoveAll(resolved)
}
