package testenv

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Interruptions are programs that got Ctrl-C, one after another.
type Interruptions struct {
	// Took says how long each took to end.
	Took []time.Duration
	// came is how many had ended before.
	came int
}

// After starts a program and sends it SIGINT after a delay. It says whether that
// ended it: if not, the program had come through before. Another end of it fails the
// test.
func (i *Interruptions) After(t testing.TB, cmd *exec.Cmd, delay time.Duration) bool {
	t.Helper()
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
	timer.Stop()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case err == nil: // it was faster, or the signal came behind its last step
		i.came++
		return false
	case cmd.ProcessState.ExitCode() == fault.Interrupted.ExitCode():
	case status.Signaled() && status.Signal() == syscall.SIGINT: // before it listened to signals
	default:
		t.Fatalf("%v, interrupted after %s, ended with %v\n%s", cmd.Args, delay, err, cmd.Stderr)
	}
	took := now.Sub(<-sent).Round(time.Millisecond)
	t.Logf("interrupted after %s, ended %s later", delay.Round(time.Millisecond), took)
	i.Took = append(i.Took, took)
	return true
}

// Report logs how long they took, and fails the test if one took more than most.
func (i *Interruptions) Report(t testing.TB, most time.Duration) {
	t.Helper()
	took := slices.Sorted(slices.Values(i.Took))
	last := took[len(took)-1]
	t.Logf("%d builds were interrupted and ended after %s (least), %s (median), %s (90%%), %s (most); %d came through",
		len(took), took[0], took[len(took)/2], took[len(took)*9/10], last, i.came)
	if last > most {
		t.Errorf("one ended %s after Ctrl-C, which should take at most %s on a machine that does nothing else", last, most)
	}
}
