//go:build !linux

package format

// startWriteback leaves it to the system.
func startWriteback(File, int64, int64) {}
