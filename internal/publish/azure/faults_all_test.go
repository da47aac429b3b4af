//go:build all

package azure

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// 200 faults at random points, of which about half are kills, and as many kills
// at each note as there are notes.
func TestTwoHundredFaults(t *testing.T) {
	t.Setenv("NODESMITH_FAULTS", "200")
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			publishtest.Run(t, publishtest.Suite{
				Open:  open,
				Start: func(t testing.TB) publishtest.Server { return startServer(t, way) },
			})
		})
	}
}
