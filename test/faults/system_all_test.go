//go:build all

package faults

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
)

// The whole operating system of the example, with its boot loaders, is built
// twice: today on this machine, and on another one whose programs see a day 400
// days later.
func TestTheWholeSystemIsTheSameOnAnotherMachineLater(t *testing.T) {
	a := needArchive(t)
	settings, err := host.Read()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "../../bin/nodesmith", "lock", "-f", "../../examples/debian-12.yaml", "-o", dir, "--progress", "quiet").Output()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Read(filepath.Clean(strings.TrimSpace(string(out))))
	if err != nil {
		t.Fatal(err)
	}
	release, _ := known.Release("debian", "12", "amd64")
	release.Presets = map[string]string{}
	today := build{
		Release: release, Lock: l, Now: time.Now(), Firmware: []string{"bios", "uefi"}, Size: 4 * size.GiB, Mirrors: []string{a.serve(t, nil)}, Others: settings.Mirrors,
	}
	first := today.withClock(t, "+000").elsewhere(t)
	first.must(t)
	later := today.withClock(t, "+400").elsewhere(t)
	later.wrapper = otherMachine
	later.must(t, otherEnvironment...)
	differOnlyInTheirClocks(t, first.output("raw"), later.output("raw"))
}
