//go:build all

package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// interruptsVariable says how many interruptions there shall be.
const interruptsVariable = "NODESMITH_TEST_INTERRUPTS"

// A build is interrupted with Ctrl-C at a random moment of its course, again and
// again on what the one before it left, until one comes through; then another
// starts from nothing.
func TestCtrlCEndsABuildAtAnyMomentAndLeavesNothing(t *testing.T) {
	a := needArchive(t)
	mirror := a.serve(t, nil)
	want := cleanBuild(t)
	whole := clean.took
	seed := number(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("a build takes %s; %s=%d repeats these interruptions", whole, seedVariable, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	total, came := number(t, interruptsVariable, 100), 0
	var took []time.Duration
	for uint64(len(took)) < total {
		b := newBuild(t, mirror)
		for uint64(len(took)) < total {
			delay := time.Duration(random.Float64() * float64(whole))
			ended, interrupted := interruptAfter(t, b, delay)
			if !interrupted {
				came++
				break
			}
			t.Logf("interrupted after %s, ended %s later", delay.Round(time.Millisecond), ended)
			took = append(took, ended)
			nothingHalfWritten(t, b, want)
			nothingLeft(t, b)
		}
		b.must(t)
		equalsClean(t, b)
		b.remove(t)
	}
	slices.Sort(took)
	t.Logf("%d builds were interrupted and ended after %s (least), %s (median), %s (90%%), %s (most); %d came through",
		len(took), took[0], took[len(took)/2], took[len(took)*9/10], took[len(took)-1], came)
	if most := took[len(took)-1]; most > 2*time.Second {
		t.Errorf("one ended %s after Ctrl-C, which should take at most 2 s on a machine that does nothing else", most)
	}
}

// interruptAfter starts a build and sends it SIGINT after a delay. It returns how
// long the build took to end; false if it had ended before.
func interruptAfter(t *testing.T, b build, delay time.Duration) (ended time.Duration, interrupted bool) {
	t.Helper()
	cmd := b.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent := make(chan time.Time, 1)
	timer := time.AfterFunc(delay, func() {
		sent <- time.Now()
		_ = cmd.Process.Signal(os.Interrupt)
	})
	err := cmd.Wait()
	now := time.Now()
	if timer.Stop() && err == nil { // it was faster
		return 0, false
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case err == nil: // the signal came behind its last step
		return 0, false
	case cmd.ProcessState.ExitCode() == fault.Interrupted.ExitCode():
	case status.Signaled() && status.Signal() == syscall.SIGINT: // before it listened to signals
	default:
		t.Fatalf("an interrupted build ended with %v", err)
	}
	return now.Sub(<-sent).Round(time.Millisecond), true
}

// nothingLeft fails if something of a build that has ended is still mounted, runs,
// or lies half-written in the folder of its results.
func nothingLeft(t *testing.T, b build) {
	t.Helper()
	if left := mountsBelow(t, b.Cache); len(left) > 0 {
		t.Fatalf("still mounted: %q", left)
	}
	if left := processesOn(t, b.Cache); len(left) > 0 {
		t.Fatalf("still running: %q", left)
	}
	entries, err := os.ReadDir(b.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Fatalf("%s is left in the folder of results", e.Name())
		}
	}
}

// processesOn lists the programs of processes that see a mount made of what lies
// below a folder: those of containers do.
func processesOn(t *testing.T, dir string) (running []string) {
	t.Helper()
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		text, err := os.ReadFile(table)
		if err != nil { // it has ended
			continue
		}
		if strings.Contains(string(text), dir+"/") {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(table), "cmdline"))
			running = append(running, strings.ReplaceAll(string(name), "\x00", " "))
		}
	}
	return running
}
