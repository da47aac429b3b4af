package rootless

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// trialVariable makes this program a trial.
const trialVariable = "NODESMITH_ROOTLESS_TRIAL"

// trial is what the kernel refused a process of the user's, nil where it did not.
// Seccomp filters, security modules and what a container hides of /proc decide that,
// and none of them can be read off reliably.
type trial struct {
	namespaces error // new user, mount, process and UTS namespaces
	hostname   error // a host name in the new UTS namespace
	proc       error // a proc file system of the new process namespace
}

// try lets a child do what RootlessKit and runc will.
func try() trial {
	var out strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stdout = append(os.Environ(), trialVariable+"=1"), &out
	id := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid()), Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			err = errno // the rest tells of fork and exec
		}
		return trial{namespaces: err}
	}
	var hostname, proc syscall.Errno
	if _, err := fmt.Sscan(out.String(), &hostname, &proc); err != nil {
		return trial{namespaces: fmt.Errorf("what the child says: %w", err)}
	}
	return trial{hostname: refusal(hostname), proc: refusal(proc)}
}

// tryMain is the child: it prints the numbers of the errors.
func tryMain(out io.Writer) {
	var hostname, proc syscall.Errno
	_ = errors.As(unix.Sethostname([]byte("nodesmith")), &hostname)
	_ = errors.As(unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""), &proc)
	fmt.Fprintln(out, uint(hostname), uint(proc))
}

// refusal is an error number as an error.
func refusal(number syscall.Errno) error {
	if number == 0 {
		return nil
	}
	return number
}

// lacks says what of a container's options makes up for what was refused.
func (t trial) lacks() (lacks []lack) {
	if err := cmp.Or(t.namespaces, t.hostname); err != nil {
		lacks = append(lacks, lack{
			fmt.Sprintf("containers for steps: the kernel does not make user namespaces, or no host names in them (%v)", err),
			"in a container: --security-opt seccomp=unconfined",
		})
	}
	switch {
	case errors.Is(t.proc, syscall.EACCES):
		lacks = append(lacks, lack{
			"mounting in a user namespace: a security module forbids it",
			"in a container: --security-opt apparmor=unconfined, or label=disable where it is SELinux",
		})
	case t.proc != nil:
		lacks = append(lacks, lack{
			fmt.Sprintf("a /proc for steps: mounting it is not allowed where parts of /proc are hidden or read-only (%v)", t.proc),
			"in a container: --security-opt systempaths=unconfined (Podman: unmask=ALL)",
		})
	}
	return lacks
}
