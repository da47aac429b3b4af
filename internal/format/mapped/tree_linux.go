package mapped

import (
	"os"

	"golang.org/x/sys/unix"
)

// openBeneath opens a file in one call of the kernel, where os.Root takes several for
// each directory on the way: a disk has thousands of files. It returns nil if that
// fails, as on kernels before 5.6 and where a container may not call it.
func openBeneath(dir *os.File, name string) *os.File {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}
