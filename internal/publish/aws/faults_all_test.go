//go:build all

package aws

import "testing"

// 200 faults at random points, of which about half are kills, and as many kills
// at each note as there are notes.
func TestTwoHundredFaults(t *testing.T) {
	t.Setenv("NODESMITH_FAULTS", "200")
	TestSuite(t)
}
