package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// Every infrastructure's example is built from one lock, which keeps the system and
// the Kubernetes of the built example's, and held to the contract of its infrastructure.
func TestTheExampleOfEveryInfrastructureHoldsTheContract(t *testing.T) {
	testenv.NeedRoot(t)
	examples, err := filepath.Glob("../examples/debian-12-*.yaml")
	if err != nil || len(examples) != len(contract.Infrastructures)-1 {
		t.Fatalf("examples %q, %v", examples, err)
	}
	dir := t.TempDir()
	takeLock(t, dir)
	must(t, "lock", "-f", example, "-o", dir, "--keep", "--progress", "plain",
		"--set", "spec.infrastructures=["+strings.Join(contract.Infrastructures, ", ")+"]")
	for _, spec := range examples {
		_, infrastructure, _ := strings.Cut(strings.TrimSuffix(filepath.Base(spec), ".yaml"), "debian-12-")
		t.Run(infrastructure, func(t *testing.T) {
			built := must(t, "build", "-f", spec, "-o", dir, "--locked", "--progress", "json")
			image := strings.TrimSpace(built.out)
			for _, step := range stepsRun(t, built.err) {
				if !strings.HasPrefix(step, "node: ") && !strings.HasPrefix(step, infrastructure+": ") {
					t.Errorf("the step %q ran again", step)
				}
			}
			checked := must(t, "verify", image, "--level", "contract", "--strict", "--json")
			var verified report.Verification
			if err := json.Unmarshal([]byte(checked.out), &verified); err != nil {
				t.Fatal(err)
			}
			if verified.Infrastructure != infrastructure || verified.Counts()[contract.Passed] < 120 {
				t.Errorf("the report is for %q with %+v", verified.Infrastructure, verified.Counts())
			}
			// One image at a time: the disk of the machine is not the test's.
			if err := os.Remove(image); err != nil {
				t.Error(err)
			}
		})
	}
}
