//go:build unix

package known

import (
	"os"
	"syscall"
)

// StoredSize returns how many bytes a file takes up, without its holes.
func StoredSize(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512 // st_blocks' unit, whatever the file system's is
	}
	return info.Size()
}
