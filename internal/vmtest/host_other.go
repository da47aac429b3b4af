//go:build !linux

package vmtest

import (
	"net"
	"os"
	"os/exec"
	"runtime"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Guests run on Linux alone: nothing below ties QEMU to the life of its caller
// elsewhere. socketPair comes before QEMU is started, and says so.

func lead(*exec.Cmd) {}

func killGroup(int) {}

func socketPair(string) (net.Conn, *os.File, error) {
	return nil, nil, fault.New(fault.MissingHost, "verify it on a Linux machine; --level contract works here",
		"booting an image needs Linux, and this is %s", runtime.GOOS)
}
