package rootless

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// printVariable makes the test binary print what a trial finds.
const printVariable = "NODESMITH_TEST_TRIAL"

func TestMain(m *testing.M) {
	if code, is := Child(os.Stderr); is {
		os.Exit(code)
	}
	if os.Getenv(printVariable) != "" {
		t := try()
		fmt.Printf("namespaces: %v, host name: %v, proc: %v\n", t.namespaces, t.hostname, t.proc)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// In namespaces of its own a test changes what containers change.
func TestATrialFindsWhatTheKernelRefuses(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "unshare")
	for name, test := range map[string]struct{ namespace, change, want string }{
		"nothing":               {"--mount", "true", "namespaces: <nil>, host name: <nil>, proc: <nil>"},
		"a limit":               {"--user --map-root-user", "echo 0 >/proc/sys/user/max_user_namespaces", "namespaces: no space left on device, host name: <nil>, proc: <nil>"},
		"a read-only /proc/sys": {"--mount", "mount --bind /proc/sys /proc/sys", "namespaces: <nil>, host name: <nil>, proc: operation not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Fields(test.namespace), "sh", "-ec", test.change+`; exec "$0"`, os.Args[0])
			cmd := exec.CommandContext(t.Context(), "unshare", args...)
			cmd.Env = append(os.Environ(), printVariable+"=1")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != test.want {
				t.Errorf("%v\n%s, want %s", err, out, test.want)
			}
		})
	}
}

func TestARefusedMapHasARemedyOfItsOwn(t *testing.T) {
	err := errors.New("newuidmap 18 [0 1000 1 1 100000 65536] failed: newuidmap: write to uid_map failed: Operation not permitted\n")
	if got := remedy(err); !strings.Contains(got, "setcap cap_setuid=ep /usr/bin/newuidmap") {
		t.Error(got)
	}
	if got := remedy(errors.New("another")); !strings.Contains(got, "docs/engines.md") {
		t.Error(got)
	}
}
