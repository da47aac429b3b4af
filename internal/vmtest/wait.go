package vmtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// consoleLines is how many of the console's last lines an error shows.
const consoleLines = 30

// settle is how long a guest in trouble may go on writing to its console.
const settle = time.Second

// WaitReport waits until the guest has ended its report and returns its checks
// in the order in which they came. Each is also given to seen as it comes,
// unless that is nil.
//
// It fails with fault.Guest, and with the checks that came so far, when within
// (more than 0) has passed, when the guest stops, panics or stands at a prompt,
// or when its report is not one; the error holds the console's last 30 lines.
// An ended context gives its cause.
func (m *Machine) WaitReport(ctx context.Context, within time.Duration, seen func(Check)) ([]Check, error) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	var checks []Check
	take := func(c Check) {
		checks = append(checks, c)
		if seen != nil {
			seen(c)
		}
	}
	rest := func() {
		for {
			select {
			case c := <-m.checks:
				take(c)
			default:
				return
			}
		}
	}
	for {
		select {
		case c := <-m.checks:
			take(c)
		case err := <-m.reported:
			rest()
			switch {
			case err == nil:
				return checks, nil
			case errors.Is(err, errNoEnd):
				<-m.gone // the channel ends with QEMU
				return checks, m.ended(ctx)
			}
			return checks, m.failure(err.Error())
		case meaning := <-m.console.trouble:
			select {
			case <-time.After(settle):
			case <-m.gone:
			}
			rest()
			return checks, m.failure(meaning)
		case err := <-m.broken:
			return checks, err
		case <-deadline.C:
			rest()
			return checks, m.failure(fmt.Sprintf("it did not end its report within %s (%d checks came)", within, len(checks)))
		case <-ctx.Done():
			return checks, context.Cause(ctx)
		case <-m.gone:
			rest()
			return checks, m.ended(ctx)
		}
	}
}

// ended is the error for a QEMU that is gone before the report's end.
func (m *Machine) ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case meaning := <-m.console.trouble:
		return m.failure(meaning)
	default:
		return m.failure(m.exitError().Error())
	}
}

// failure is a fault of the guest: what happened, on which firmware, and the
// console's last lines.
func (m *Machine) failure(what string) error {
	tail := m.console.Tail(consoleLines)
	err := guestFailure(m.options.Firmware, m.options.Accel, what, tail)
	if m.options.Accel == TCG && strings.Contains(strings.Join(tail, "\n"), starved) {
		return fmt.Errorf("%w (%w)", err, errStarved)
	}
	return err
}

// starved is what a kernel panics with when it sees no tick of the timer that it
// has set up (check_timer in arch/x86/kernel/apic/io_apic.c). An emulated machine
// that the host gives no time for a moment looks so to it: that says nothing of
// the image.
const starved = "IO-APIC + timer doesn't work!"

// errStarved marks a guest's end by the host's load.
var errStarved = errors.New("the host is overloaded")

func guestFailure(firmware Firmware, accel Accel, what string, tail []string) error {
	last := "its console is empty"
	if len(tail) > 0 {
		last = "the console's last lines:\n    " + strings.Join(tail, "\n    ")
	}
	return fault.New(fault.Guest, "", "guest on %s firmware under %s: %s; %s", firmware, accel, what, last)
}
