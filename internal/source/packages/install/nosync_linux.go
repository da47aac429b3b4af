package install

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncs are the system calls that only wait for the disk. msync is none of them:
// some ask by it whether an address is mapped.
var syncs = []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE}

// auditArchitectures are the kernel's names of what Go compiles for: numbers of system
// calls of another one mean others.
var auditArchitectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// skipSyncs lets this process and all that it starts from now on go on without
// waiting for the disk: dpkg does it several times a package, even when told of
// unsafe-io. Of a machine that stopped the engine takes over nothing that was not
// written out.
func skipSyncs() error {
	architecture, ok := auditArchitectures[runtime.GOARCH]
	if !ok {
		return nil
	}
	// seccomp_data: the number of the system call, then the architecture.
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, then, otherwise uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: then, Jf: otherwise}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	n := len(syncs)
	program := []unix.SockFilter{load(4), equal(architecture, 0, uint8(n+1)), load(0)}
	for i, call := range syncs {
		program = append(program, equal(call, uint8(n-i), 0)) // to the last instruction
	}
	program = append(program, answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_ERRNO)) // of errno 0: done
	// Both calls are the thread's, until the second one has reached all of them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Needed where the step has no CAP_SYS_ADMIN. It is root: no program has to gain anything.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up further privileges: %w", err)
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	switch {
	case errno != 0:
		return fmt.Errorf("skip what waits for the disk: %w", errno)
	case thread != 0:
		return fmt.Errorf("skip what waits for the disk: thread %d has a filter of its own", thread)
	}
	return nil
}
