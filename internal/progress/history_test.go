package progress_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/progress"
)

func TestAHistoryKnowsAStepByItsInputsOrElseByItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "steps.json")
	step := func(inputs, name string, from, to int, cached bool) progress.Step {
		return progress.Step{Digest: digest.FromString(inputs), Name: name, Started: *at(from), Completed: *at(to), Cached: cached}
	}
	h := progress.OpenHistory(path)
	if _, _, known := h.Took(digest.FromString("a"), "os: a"); known {
		t.Error("an empty history knows a step")
	}
	for _, steps := range [][]progress.Step{
		{step("a", "os: a", 0, 10, false), step("input", "input: files", 0, 90, false), {Name: "write files", Started: *at(0), Completed: *at(3)}},
		{step("a2", "os: a", 20, 24, false), step("b", "os: b", 0, 90, true)},
		{step("a", "os: a", 30, 42, false)},
		{step("a2", "os: a", 50, 55, false)},
		{step("b", "os: b", 0, 90, true)}, // nothing that ran
	} {
		if err := progress.OpenHistory(path).Add(steps); err != nil {
			t.Fatal(err)
		}
	}
	h = progress.OpenHistory(path)
	for _, test := range []struct {
		inputs, name string
		seconds      int
		exact, known bool
	}{
		{"a", "os: a", 12, true, true},
		{"a2", "os: a", 5, true, true},
		{"a3", "os: a", 5, false, true}, // the last one of that name
		{"b", "os: b", 0, false, false},
		{"input", "input: files", 0, false, false},
		{"", "write files", 3, false, true},
	} {
		took, exact, known := h.Took(digest.FromString(test.inputs), test.name)
		if took != time.Duration(test.seconds)*time.Second || exact != test.exact || known != test.known {
			t.Errorf("%s with %s: %v, %v, %v", test.name, test.inputs, took, exact, known)
		}
	}
}

func TestAHistoryStaysSmallAndForgetsTheOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "steps.json")
	var steps []progress.Step
	for i := range 5000 {
		name := strconv.Itoa(i)
		steps = append(steps, progress.Step{Digest: digest.FromString(name), Name: name, Started: *at(i), Completed: *at(i + 1)})
	}
	if err := progress.OpenHistory(path).Add(steps); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	h := progress.OpenHistory(path)
	for name, want := range map[string]bool{"0": false, "2951": false, "2952": true, "4999": true} {
		if _, _, known := h.Took(digest.FromString(name), name); known != want {
			t.Errorf("%s: known %v, want %v", name, known, want)
		}
	}
}

func TestADamagedHistoryIsEmptyAndIsWrittenAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "steps.json")
	for _, damage := range []string{"", "[{", `[{"name": 1}]`, `{"a": "b"}`, strings.Repeat(" ", 5<<20)} {
		if err := os.WriteFile(path, []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		h := progress.OpenHistory(path)
		if _, _, known := h.Took("", "a"); known {
			t.Errorf("%.20q knows a step", damage)
		}
		if err := h.Add([]progress.Step{{Name: "a", Started: *at(0), Completed: *at(1)}}); err != nil {
			t.Fatal(err)
		}
		if _, _, known := progress.OpenHistory(path).Took("", "a"); !known {
			t.Errorf("after %.20q nothing was written", damage)
		}
	}
}
