package vmtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// fakeMachine is a machine without QEMU: its guest sends report, and then keeps
// its channel open.
func fakeMachine(report string) *Machine {
	m := &Machine{
		options: Options{Firmware: UEFI, Accel: TCG}, console: NewConsole(nil), gone: make(chan struct{}),
		checks: make(chan Check, maxChecks), reported: make(chan error, 1), broken: make(chan error, 1),
	}
	go func() {
		err := readReport(strings.NewReader(report), func(c Check) { m.checks <- c })
		if !errors.Is(err, errNoEnd) {
			m.reported <- err
		}
	}()
	return m
}

func TestWaitReportReturnsWhatTheGuestReported(t *testing.T) {
	m := fakeMachine(`{"id":"a","status":"pass"}` + "\n" + `{"id":"b","status":"fail","evidence":"no"}` + "\n" + `{"done":true}` + "\n")
	var seen []Check
	got, err := m.WaitReport(t.Context(), time.Minute, func(c Check) { seen = append(seen, c) })
	if want := []Check{{"a", Pass, ""}, {"b", Fail, "no"}}; err != nil || !slices.Equal(got, want) || !slices.Equal(seen, want) {
		t.Errorf("got %v, saw %v, want %v (%v)", got, seen, want, err)
	}
}

func TestWaitReportEndsAtItsDeadlineWithWhatCame(t *testing.T) {
	m := fakeMachine(`{"id":"a","status":"pass"}` + "\n")
	for range 2 * consoleLines {
		_, _ = m.console.Write([]byte("waiting\r\n"))
	}
	got, err := m.WaitReport(t.Context(), 100*time.Millisecond, nil)
	if len(got) != 1 || fault.KindOf(err) != fault.Guest {
		t.Fatalf("got %v, %v: %v", got, fault.KindOf(err), err)
	}
	want := "guest on uefi firmware under tcg: it did not end its report within 100ms (1 checks came); the console's last lines:" +
		strings.Repeat("\n    waiting", consoleLines)
	if err.Error() != want {
		t.Errorf("error\n%s\nwant\n%s", err, want)
	}
}

// Under TCG a loaded host can stop the guest's clock; a KVM guest that says so has
// a defect.
func TestAGuestWithoutATimerIsTheHostsTroubleUnderTCGAlone(t *testing.T) {
	for accel, want := range map[Accel]bool{TCG: true, KVM: false} {
		m := fakeMachine("")
		m.options.Accel = accel
		_, _ = m.console.Write([]byte("Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug\r\n"))
		_, err := m.WaitReport(t.Context(), time.Minute, nil)
		if errors.Is(err, errStarved) != want || fault.KindOf(err) != fault.Guest {
			t.Errorf("%s: %v", accel, err)
		}
	}
}

func TestWaitReportFailsOnWhatIsNoReport(t *testing.T) {
	_, err := fakeMachine("{\"id\":\"A B\"}\n").WaitReport(t.Context(), time.Minute, nil)
	if fault.KindOf(err) != fault.Guest || !strings.Contains(err.Error(), `check "A B"`) {
		t.Error(err)
	}
}

func TestWaitReportEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	if _, err := fakeMachine("").WaitReport(ctx, time.Minute, nil); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestWaitReportSaysThatTheHostIsFull(t *testing.T) {
	m := fakeMachine("")
	m.broken <- fault.New(fault.NoSpace, "free space", "no space left")
	if _, err := m.WaitReport(t.Context(), time.Minute, nil); fault.KindOf(err) != fault.NoSpace {
		t.Error(err)
	}
}
