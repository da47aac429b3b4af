//go:build all

package azure

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// TestTwoHundredFaults is the suite with a disk of 64 MiB, a kill at each note and 200
// faults at random points, for each way.
func TestTwoHundredFaults(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			publishtest.Run(t, publishtest.Suite{
				Open:  open,
				Start: func(t testing.TB) publishtest.Server { return startSized(t, way, 64) },
				Kills: 200, Faults: 200,
			})
		})
	}
}
