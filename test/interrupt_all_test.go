//go:build all

package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/diff"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// interruptsVariable says how many interruptions there shall be.
const interruptsVariable = "NODESMITH_TEST_INTERRUPTS"

// The example with another file each time is interrupted at random moments: when
// the program starts, while the node is configured, its disk is assembled and
// copied, its file and the store's chunks are written, and the image is committed.
// (What comes before, test/faults interrupts.)
func TestCtrlCEndsTheExamplesBuildAtAnyMomentAndLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	total, err := strconv.Atoi(cmp.Or(os.Getenv(interruptsVariable), "100"))
	if err != nil {
		t.Fatal(err)
	}
	reference := t.TempDir()
	start := time.Now()
	must(t, change(t, reference, 0)...)
	whole := time.Since(start)
	t.Logf("a build takes %s", whole)
	var all testenv.Interruptions
	for i := 1; len(all.Took) < total; i++ {
		dir := t.TempDir()
		args := change(t, dir, i)
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Stderr = &bytes.Buffer{}
		if all.After(t, cmd, time.Duration(rand.Float64()*float64(whole))) { // else it has ended
			leavesNothing(t, dir)
			if len(all.Took)%10 == 0 {
				must(t, args...)
				differOnlyIn(t, reference, dir, "/etc/motd")
			}
		}
		if err := os.RemoveAll(dir); err != nil { // an image is large
			t.Fatal(err)
		}
	}
	all.Report(t, 2*time.Second)
}

// change is the build of the example, by its lock, with a file of its own.
func change(t *testing.T, dir string, n int) []string {
	t.Helper()
	takeLock(t, dir)
	text := fmt.Sprintf("%s, %d of %d", t.Name(), n, os.Getpid())
	return []string{"build", "-f", example, "-o", dir, "--locked", "--progress", "quiet", "--set", "spec.files=[{path: /etc/motd, content: '" + text + "'}]"}
}

// leavesNothing fails unless the folder of a build that was interrupted holds whole
// files alone, and none of its steps is there any more.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left in the output folder", e.Name())
		}
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Join(user, "nodesmith", "engine")) {
			t.Errorf("still mounted: %s", line)
		}
	}
	containers, err := filepath.Glob(filepath.Join(user, "nodesmith", "engine", "runc-*", "executor", "*", "config.json"))
	if err != nil || len(containers) > 0 {
		t.Errorf("containers are left: %q (%v)", containers, err)
	}
}

// differOnlyIn fails unless one file alone makes the images of two folders differ.
func differOnlyIn(t *testing.T, a, b, path string) {
	t.Helper()
	r := must(t, "diff", "--json", filepath.Join(a, "debian-12-qemu.qcow2"), filepath.Join(b, "debian-12-qemu.qcow2"))
	var report diff.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Files) != 1 || !strings.HasSuffix(report.Files[0].Path, path) || len(report.Sections) > 0 {
		t.Errorf("more differs than %s:\n%s", path, r.out)
	}
}
