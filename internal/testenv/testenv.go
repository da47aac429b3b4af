// Package testenv says what a test needs of the machine. A machine that lacks
// it skips the test and says so; CI sets NODESMITH_TEST_MUST_RUN=1, and there
// the same lack is a failure.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Need ends the test unless every program is on PATH.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lacks(t, "program "+p)
		}
	}
}

// NeedRoot ends the test unless it runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root")
	}
}

// Lacks ends the test because the machine lacks what: skipped on a user's
// machine, failed where NODESMITH_TEST_MUST_RUN=1.
func Lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("NODESMITH_TEST_MUST_RUN") == "1" {
		t.Fatalf("this machine lacks %s, and NODESMITH_TEST_MUST_RUN=1 forbids to skip", what)
	}
	t.Skipf("SKIPPED: this machine lacks %s (scripts/install-deps.sh installs it)", what)
}
