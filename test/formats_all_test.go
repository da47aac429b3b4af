//go:build all

package test

import (
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// Every format is booted as it is, by the block driver that QEMU has for it; of
// Compute Engine's archive what is in it.
func TestTheImageBootsFromEveryFormat(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	r := must(t, "convert", raw(), "--to", strings.Join(known.Names(), ","), "-o", t.TempDir())
	for _, file := range strings.Fields(r.out) {
		t.Run(file, func(t *testing.T) {
			must(t, "verify", file, "--level", "boot", "--firmware", "bios", "--deadline", "20m")
		})
	}
}
