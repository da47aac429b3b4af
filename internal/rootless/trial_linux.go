package rootless

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
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
	namespaces error // new user, mount and process namespaces
	proc       error // a proc file system of the new process namespace
}

// try lets a child do what RootlessKit and runc will.
func try() (t trial) {
	var out strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stdout = []string{trialVariable + "=1"}, &out
	id := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid()),
	}
	if err := cmd.Run(); err != nil {
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			err = errno // the rest tells of fork and exec
		}
		return trial{namespaces: err}
	}
	if code, err := strconv.Atoi(out.String()); err == nil && code != 0 {
		t.proc = syscall.Errno(code)
	}
	return t
}

// tryMain is the child: it prints the number of the error that mounting ended with.
func tryMain(out io.Writer) {
	errno := syscall.Errno(0)
	_ = errors.As(unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""), &errno)
	fmt.Fprint(out, int(errno))
}

// lacks says what of a container's options makes up for what was refused.
func (t trial) lacks() (lacks []lack) {
	if t.namespaces != nil {
		lacks = append(lacks, lack{
			fmt.Sprintf("user namespaces: the kernel does not make one (%v)", t.namespaces),
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
