package rootless

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rootless-containers/rootlesskit/v2/pkg/child"
	"github.com/rootless-containers/rootlesskit/v2/pkg/parent"
	"github.com/sirupsen/logrus"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Variables by which the processes of one command know of each other.
const (
	pipeVariable       = "NODESMITH_ROOTLESS_PIPE"
	stateVariable      = "NODESMITH_ROOTLESS_STATE"
	activationVariable = "NODESMITH_ROOTLESS_ACTIVATION" // RootlessKit wants one; sockets are never passed
	helperVariable     = "NODESMITH_ROOTLESS_HELPER"
)

// runtimeVariable names the folder in which runc notes its containers.
const runtimeVariable = "XDG_RUNTIME_DIR"

// Needed says whether steps can only run after Enter.
func Needed() bool { return os.Geteuid() != 0 }

// Enter runs this very command once more in a user namespace and returns how it
// ended (ExitCode), or why it can't. runtimeDir serves as the user's runtime
// directory where the session has none.
func Enter(runtimeDir string) error {
	who, err := user.Current()
	if err != nil {
		return fault.New(fault.MissingHost, "run it as a user that /etc/passwd knows (nodesmith's container image: --user 1000)",
			"building without root: %w", err)
	}
	if err := (machine{root: "/", user: who}).lacks(); err != nil {
		return err
	}
	if os.Getenv(runtimeVariable) == "" {
		if err := os.MkdirAll(runtimeDir, 0o700); err != nil {
			return err
		}
		if err := os.Setenv(runtimeVariable, runtimeDir); err != nil {
			return err
		}
	}
	state, err := os.MkdirTemp("", "rootless-")
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("a folder for the user namespace: %w", err))
	}
	defer func() { _ = os.RemoveAll(state) }() // or it goes with the process's others
	logrus.SetOutput(io.Discard)               // what matters comes back as an error
	err = ended(parent.Parent(parent.Opt{
		PipeFDEnvKey: pipeVariable, ChildUseActivationEnvKey: activationVariable,
		StateDir: state, StateDirEnvKey: stateVariable, Propagation: "rprivate",
	}))
	if _, ok := ExitCode(err); ok {
		return err
	}
	return fault.New(fault.MissingHost, remedy(err), "building without root: %w", err)
}

// remedy tells one end of newuidmap from others, which nothing shows beforehand: it
// depends on how that was compiled.
func remedy(err error) string {
	for _, file := range []string{"uid_map", "gid_map"} {
		if strings.Contains(err.Error(), "write to "+file+" failed: Operation not permitted") {
			return "in a container as root: chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap; " +
				"setcap cap_setuid=ep /usr/bin/newuidmap; setcap cap_setgid=ep /usr/bin/newgidmap (docs/engines.md)"
		}
	}
	return "docs/engines.md says what a host needs; root builds without all that"
}

// Child does the part of the process between Enter and the command in the
// namespace, or what Enter tries first, if this is that process, and returns its exit
// code.
func Child(errOut io.Writer) (code int, is bool) {
	if os.Getenv(trialVariable) != "" {
		tryMain(os.Stdout)
		return 0, true
	}
	if os.Getenv(pipeVariable) == "" {
		return 0, false
	}
	// A group of its own: Ctrl-C goes to the first process alone, which hands it
	// down. Else the command would get it three times, and a second one means to
	// end at once.
	if err := syscall.Setpgid(0, 0); err != nil {
		fmt.Fprintf(errOut, "nodesmith: building without root: %v\n", err)
		return fault.MissingHost.ExitCode(), true
	}
	self, err := os.Executable()
	if err == nil {
		logrus.SetOutput(io.Discard)
		err = ended(child.Child(child.Opt{
			PipeFDEnvKey: pipeVariable, RunActivationHelperEnvKey: helperVariable, ChildUseActivationEnvKey: activationVariable,
			StateDirEnvKey: stateVariable, TargetCmd: append([]string{filepath.Clean(self)}, os.Args[1:]...), Propagation: "rprivate",
		}))
	}
	if code, ok := ExitCode(err); ok {
		return code, true
	}
	fmt.Fprintf(errOut, "nodesmith: building without root: in the user namespace: %v\n", err)
	return fault.MissingHost.ExitCode(), true
}
