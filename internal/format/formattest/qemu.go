package formattest

import (
	"os/exec"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// QEMUCompares lets qemu-img read the file as format and compare it with the
// raw disk. QEMU's smallest disk is one sector; sizes may differ where the rest
// is zero.
func QEMUCompares(format string) func(t *testing.T, path, rawPath string) {
	return func(t *testing.T, path, rawPath string) {
		testenv.Need(t, "qemu-img")
		run(t, "qemu-img", "compare", "-f", format, "-F", "raw", path, rawPath)
	}
}

// QEMUChecks lets qemu-img check the file's own tables, and compare it.
func QEMUChecks(format string) func(t *testing.T, path, rawPath string) {
	return func(t *testing.T, path, rawPath string) {
		testenv.Need(t, "qemu-img")
		run(t, "qemu-img", "check", "-f", format, path)
		QEMUCompares(format)(t, path, rawPath)
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}
