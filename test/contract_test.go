package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestTheBuiltImageHoldsTheContract(t *testing.T) {
	testenv.NeedRoot(t)
	r := must(t, "verify", qcow2(), "--level", "contract", "--strict", "--json")
	var verified report.Verification
	if err := json.Unmarshal([]byte(r.out), &verified); err != nil {
		t.Fatal(err)
	}
	if verified.Infrastructure != "qemu" || verified.Verdict != contract.Passed || verified.Counts()[contract.Passed] < 100 {
		t.Errorf("the report is for %q with %+v", verified.Infrastructure, verified.Counts())
	}
}

// The faults are made by the contract's own tests, of the image built here.
func TestBrokenCopiesOfTheBuiltImageAreCaught(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "debugfs", "e2undo", "sgdisk", "mcopy")
	t.Parallel()
	image, err := filepath.Abs(raw())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=30m", "-v", "../internal/contract/...")
	cmd.Env = append(os.Environ(), "NODESMITH_TEST_IMAGE="+image)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Errorf("a test was skipped:\n%s", out)
	}
}

func TestAnImageThatBreaksTheContractDoesNotExitZero(t *testing.T) {
	testenv.NeedRoot(t)
	broken := filepath.Join(t.TempDir(), "broken.raw")
	if err := os.WriteFile(broken, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := nodesmith(t, "verify", broken, "--level", "contract")
	if r.exit != fault.Contract.ExitCode() || !strings.Contains(r.out, "disk.partition-table") {
		t.Errorf("exit code %d\n%s%s", r.exit, r.out, r.err)
	}
}
