package format

import "golang.org/x/sys/unix"

// startWriteback has the kernel begin to write a range of a file, and does not wait.
func startWriteback(f File, offset, length int64) {
	if file, ok := f.(interface{ Fd() uintptr }); ok {
		_ = unix.SyncFileRange(int(file.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE) // Sync says what failed
	}
}
