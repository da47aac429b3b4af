package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
)

// plan returns the plan of a build with those flags.
func plan(t *testing.T, flags ...string) report.Plan {
	t.Helper()
	out := must(t, append([]string{"plan", "--json"}, flags...)...).out
	reporttest.Validate(t, report.PlanKind, []byte(out))
	var p report.Plan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// inState lists the steps of a plan that have a state.
func inState(p report.Plan, state engine.StepState) []string {
	found := []string{}
	for _, s := range p.Steps {
		if s.State == state {
			found = append(found, s.Name)
		}
	}
	return found
}

// compareWithBuild builds with those flags and fails where a step did not do what
// the plan says. It returns the steps that ran.
func compareWithBuild(t *testing.T, p report.Plan, flags ...string) []string {
	t.Helper()
	told := must(t, append([]string{"build", "--progress", "json"}, flags...)...).err
	ran := stepsRun(t, told)
	slices.Sort(ran)
	for _, s := range p.Steps {
		if s.Stage == "formats" {
			continue // not the engine's
		}
		did := slices.Contains(ran, s.Name)
		if did && s.State != engine.Runs && s.State != engine.Depends || !did && s.State == engine.Runs {
			t.Errorf("%s: planned %q, and ran: %v\n%s", s.Name, s.State, did, told)
		}
	}
	return ran
}

func TestAPlanOfWhatIsBuiltIsToDoNothing(t *testing.T) {
	flags := []string{"-f", example, "-o", built, "--set", "spec.formats=[raw]"}
	// Tests before this one gave the image's tag to others of their own, and the store
	// keeps few of those that have none.
	must(t, append([]string{"build", "--progress", "quiet"}, flags...)...)
	p := plan(t, flags...)
	for _, state := range []engine.StepState{engine.Runs, engine.Depends, engine.Unknown} {
		if steps := inState(p, state); len(steps) > 0 {
			t.Errorf("%s: %v", state, steps)
		}
	}
	if len(p.Downloads) > 0 || len(p.Steps) < 20 || p.Lock.State != report.LockFits {
		t.Errorf("%d downloads, %d steps, the lock %s", len(p.Downloads), len(p.Steps), p.Lock.State)
	}
	if len(p.Files) != 2 || slices.ContainsFunc(p.Files, func(f report.PlannedFile) bool { return !f.Kept }) {
		t.Errorf("files: %+v", p.Files)
	}
	if ran := compareWithBuild(t, p, flags...); len(ran) > 0 {
		t.Errorf("the build ran %v", ran)
	}
}

// customized is the example with a file of its user, in a folder with the lock of
// the built one.
func customized(t *testing.T) (spec, file string) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(built, "debian-12.lock.yaml"))
	if err != nil {
		t.Skip("the example was not built: ", err)
	}
	spec, file = filepath.Join(dir, "debian-12.yaml"), filepath.Join(dir, "motd")
	customized := string(text) + "  files:\n  - {path: /etc/motd, source: motd}\n"
	for path, data := range map[string]string{spec: customized, filepath.Join(dir, "debian-12.lock.yaml"): string(lock), file: "one\n"} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return spec, file
}

// What a user's file changes runs, and nothing else.
func TestAPlanSaysWhichStepsAUsersFileMakesRun(t *testing.T) {
	spec, file := customized(t)
	flags := []string{"-f", spec, "-o", filepath.Join(filepath.Dir(spec), "out"), "--locked"}
	want := []string{"node: configure", "qemu: assemble disk"}
	for i, content := range []string{"one\n", "two\n"} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		p := plan(t, flags...)
		runs, depends := strings.Join(inState(p, engine.Runs), ", "), inState(p, engine.Depends)
		if runs != "node: configure, qemu: assemble disk, qemu: write debian-12-qemu.qcow2, the store" || len(depends) > 0 {
			t.Errorf("%q: runs %s; depends %v", content, runs, depends)
		}
		if len(p.Downloads) > 0 {
			t.Errorf("%q: downloads %+v", content, p.Downloads)
		}
		for _, s := range p.Steps {
			// The build before has noted the time of a step of that name.
			if i > 0 && s.Name == want[0] && (s.LastSeconds == nil || s.LastSame) {
				t.Errorf("%q: %+v", content, s)
			}
		}
		if ran := compareWithBuild(t, p, flags...); !slices.Equal(ran, want) {
			t.Errorf("%q: the build ran %v, want %v", content, ran, want)
		}
	}
	p := plan(t, flags...)
	for _, s := range p.Steps {
		// A result that only others were made from may have gone for want of disk space.
		if s.State != engine.Cached && (s.State != engine.Unneeded || slices.Contains(want, s.Name)) {
			t.Errorf("after the build: %+v", s)
		}
		if s.Name == want[1] && (s.LastSeconds == nil || !s.LastSame) {
			t.Errorf("its last time is not known: %+v", s)
		}
	}
	// The store has the disk, and another folder lacks the file.
	again := append(slices.Clone(flags), "-o", filepath.Join(filepath.Dir(spec), "elsewhere"))
	if p := plan(t, again...); strings.Join(inState(p, engine.Runs), ", ") != "qemu: write debian-12-qemu.qcow2" || p.Files[0].Kept {
		t.Errorf("into another folder: %+v", p)
	}
}

func TestWithoutALockThatFitsThereIsNoPlanButTheValues(t *testing.T) {
	spec, _ := customized(t)
	p := plan(t, "-f", spec, "--set", "spec.packages=[strace]", "-o", t.TempDir())
	if p.Lock.State != report.LockStale || !strings.HasPrefix(p.Lock.Command, "nodesmith lock -f ") || !strings.Contains(p.Lock.Command, " --keep") || len(p.Steps) > 0 || len(p.Values) < 20 {
		t.Errorf("%+v", p)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(spec), "debian-12.lock.yaml")); err != nil {
		t.Fatal(err)
	}
	if p := plan(t, "-f", spec, "-o", t.TempDir()); p.Lock.State != report.LockMissing {
		t.Errorf("%+v", p.Lock)
	}
}
