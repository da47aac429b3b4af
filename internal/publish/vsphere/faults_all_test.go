//go:build all

package vsphere

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// TestTwoHundredFaults is the suite with a full disk of 64 MiB and 200 faults at
// random points, for both ways.
func TestTwoHundredFaults(t *testing.T) {
	for way, start := range map[string]func(testing.TB) publishtest.Server{
		"as a template":       func(t testing.TB) publishtest.Server { return start(t, 64<<20) },
		"as a library's item": func(t testing.TB) publishtest.Server { return startLibrary(t, 8<<20) },
	} {
		t.Run(way, func(t *testing.T) {
			publishtest.Run(t, publishtest.Suite{Open: open, Start: start, Kills: 200, Faults: 200})
		})
	}
}
