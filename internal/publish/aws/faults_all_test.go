//go:build all

package aws

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// TestTwoHundredFaults is the suite with a full disk of 64 MiB, a kill at each note
// and 200 faults at random points, for both ways.
func TestTwoHundredFaults(t *testing.T) {
	for way, blocks := range map[string]int{direct: 128, throughS3: 8} {
		t.Run(way, func(t *testing.T) {
			publishtest.Run(t, publishtest.Suite{
				Open: open, Start: func(t testing.TB) publishtest.Server { return startWay(t, way, blocks) }, Throttled: throttled,
				Kills: 200, Faults: 200,
			})
		})
	}
}
