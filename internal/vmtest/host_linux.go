package vmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// lead makes cmd the leader of a process group that the kernel kills when the
// thread that starts it ends.
func lead(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killGroup kills the group that the process leads.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// socketPair returns our end of a connected pair of Unix sockets, and the end
// for a child. Without a path there is nothing to remove, and no limit of 108
// characters to meet.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair for %s: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make a socket pair for %s: %w", name, err)
	}
	return conn, theirs, nil
}
