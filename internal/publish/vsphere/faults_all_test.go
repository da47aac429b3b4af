//go:build all

package vsphere

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// TestTwoHundredFaults is the suite with a full disk of 64 MiB and 200 faults at
// random points.
func TestTwoHundredFaults(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{
		Open: open, Start: func(t testing.TB) publishtest.Server { return start(t, 64<<20) },
		Kills: 40, Faults: 200,
	})
}
