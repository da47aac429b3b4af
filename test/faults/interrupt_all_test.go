//go:build all

package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// interruptsVariable says how many interruptions there shall be.
const interruptsVariable = "NODESMITH_TEST_INTERRUPTS"

// A build is interrupted with Ctrl-C at a random moment of its course, again and
// again on what the one before it left, until one comes through; then another
// starts from nothing.
func TestCtrlCEndsABuildAtAnyMomentAndLeavesNothing(t *testing.T) {
	a := needArchive(t)
	mirror := a.serve(t, nil)
	want := cleanBuild(t)
	whole := clean.took
	seed := number(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("a build takes %s; %s=%d repeats these interruptions", whole, seedVariable, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	total := number(t, interruptsVariable, 100)
	var all testenv.Interruptions
	for uint64(len(all.Took)) < total {
		b := newBuild(t, mirror)
		for uint64(len(all.Took)) < total {
			if !all.After(t, b.command(t), time.Duration(random.Float64()*float64(whole))) {
				break
			}
			nothingHalfWritten(t, b, want)
			nothingLeft(t, b)
		}
		b.must(t)
		equalsClean(t, b)
		b.remove(t)
	}
	all.Report(t, 2*time.Second)
}

// nothingLeft fails if something of a build that has ended is still mounted, runs,
// or lies half-written in the folder of its results.
func nothingLeft(t *testing.T, b build) {
	t.Helper()
	if left := mountsBelow(t, b.Cache); len(left) > 0 {
		t.Fatalf("still mounted: %q", left)
	}
	if left := processesOn(t, b.Cache); len(left) > 0 {
		t.Fatalf("still running: %q", left)
	}
	entries, err := os.ReadDir(b.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Fatalf("%s is left in the folder of results", e.Name())
		}
	}
}

// processesOn lists the programs of processes that see a mount made of what lies
// below a folder: those of containers do.
func processesOn(t *testing.T, dir string) (running []string) {
	t.Helper()
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		text, err := os.ReadFile(table)
		if err != nil { // it has ended
			continue
		}
		if strings.Contains(string(text), dir+"/") {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(table), "cmdline"))
			running = append(running, strings.ReplaceAll(string(name), "\x00", " "))
		}
	}
	return running
}
