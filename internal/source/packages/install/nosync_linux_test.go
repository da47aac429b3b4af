package install

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The filter stays with the process: a child gets it.
const filtered = "NODESMITH_TEST_FILTERED"

func TestNothingWaitsForTheDiskButOtherCallsAreAnswered(t *testing.T) {
	if os.Getenv(filtered) != "" {
		if err := skipSyncs(); err != nil {
			t.Fatal(err)
		}
	}
	// No descriptor: the kernel refuses it, the filter does not ask the kernel.
	fmt.Println("fsync:", unix.Fsync(-1), "fdatasync:", unix.Fdatasync(-1), "syncfs:", unix.Syncfs(-1))
	if err := unix.Close(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("close of nothing: %v", err)
	}
	if os.Getenv(filtered) != "" {
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), filtered+"=1")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "fsync: <nil> fdatasync: <nil> syncfs: <nil>"; !strings.Contains(string(out), want) {
		t.Errorf("with the filter: %s, want %q", out, want)
	}
}
