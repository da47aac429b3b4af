//go:build unix

package blockcache

import "golang.org/x/sys/unix"

// touch notes that a file was used now.
func touch(path string) { _ = unix.UtimesNanoAt(unix.AT_FDCWD, path, nil, 0) }
