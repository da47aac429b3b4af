package faults

import (
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/engine/enginetest"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// whole is what root's build on its own engine makes of everything but Kubernetes.
var whole struct {
	once    sync.Once
	digests digests
}

// wholeBuild returns the digests of that build, made once. It left the results of
// its steps in wholeCache.
func wholeBuild(t testing.TB) digests {
	t.Helper()
	a := needArchive(t)
	whole.once.Do(func() {
		b := newWhole(t, a)
		b.CacheTo = []string{"type=local,dest=" + wholeCache()}
		whole.digests = b.must(t)
	})
	if len(whole.digests) != len(outputs) {
		t.Fatal("the build on root's own engine failed")
	}
	return whole.digests
}

func wholeCache() string { return filepath.Join(workDir, "cache") }

// newWhole returns a build of everything, on an empty cache, that plans first.
func newWhole(t testing.TB, a *archive) build {
	t.Helper()
	b := newBuild(t, a.serve(t, nil))
	b.Whole, b.Plan = true, true
	return b
}

// equalsWhole fails unless a build made what root's own engine made of it.
func equalsWhole(t testing.TB, b build) {
	t.Helper()
	want, got := wholeBuild(t), b.digests(t)
	if maps.Equal(got, want) {
		return
	}
	t.Fatalf("the build made %v, root's own engine %v", got, want)
}

func TestAnOrdinaryUserMakesTheSameImage(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	b, user := newWhole(t, a), testenv.NewUser(t)
	b.Cache, b.Out = filepath.Join(user.Dir, "cache"), filepath.Join(user.Dir, "out")
	for _, dir := range []string{b.Cache, b.Out} {
		user.Mkdir(t, dir)
	}
	b.start = func(t testing.TB, config []byte, environment []string) *exec.Cmd {
		file := filepath.Join(user.Dir, "build.json")
		writeFile(t, file, config)
		cmd := user.Command(t.Context(), user.Program(t, os.Args[0]))
		cmd.Env = append(cmd.Env, append(environment, buildVariable+"="+file)...)
		return cmd
	}
	b.must(t)
	equalsWhole(t, b)
}

// planned compares the plan that a build printed with what it then did, and
// returns the states of the steps and the steps that ran.
func planned(t *testing.T, output string) (states map[engine.StepState]int, ran []string) {
	t.Helper()
	states = map[engine.StepState]int{}
	for line := range strings.Lines(output) {
		text, is := strings.CutPrefix(strings.TrimSpace(line), "PLAN ")
		if !is {
			continue
		}
		word, name, _ := strings.Cut(text, " ")
		state := engine.StepState(word)
		states[state]++
		did := ranIn(output, name)
		if did {
			ran = append(ran, name)
		}
		switch state {
		case engine.Runs, engine.Cached, engine.Unneeded:
			if did != (state == engine.Runs) {
				t.Errorf("%s: planned %q, and ran: %v", name, state, did)
			}
		case engine.Depends, engine.Unknown:
		}
	}
	if len(states) == 0 {
		t.Errorf("there is no plan in\n%s", output)
	}
	return states, ran
}

// ranIn says whether a step ran in a build that printed output.
func ranIn(output, name string) bool {
	before, _, done := strings.Cut(output, "\nDONE "+name+"\n")
	return done && !strings.Contains(before, "\nCACHED "+name+"\n")
}

// Another engine that was never used takes every step from what this one left in a
// registry.
func TestASeparateBuildKitMakesTheSameImageAndSharesItsSteps(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	shared := "type=registry,ref=" + strings.TrimPrefix(server.URL, "http://") + "/cache:tiny"
	daemon := enginetest.Start(t, filepath.Join(t.TempDir(), "d"))
	b := newWhole(t, a)
	b.Engine, b.CacheTo = daemon.Address(), []string{shared}
	r := b.do(t)
	if r.exit != 0 {
		t.Fatalf("exit code %d\n%s", r.exit, r.output)
	}
	equalsWhole(t, b)
	if states, ran := planned(t, r.output); len(ran) < 8 || states[engine.Unknown] == 0 {
		t.Errorf("planned %v; ran %q", states, ran)
	}
	b = newWhole(t, a)
	b.CacheFrom = []string{shared}
	takesAll(t, b)
}

func TestASeparateBuildKitTakesEveryStepFromAFolder(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	daemon := enginetest.Start(t, filepath.Join(t.TempDir(), "d"))
	b := newWhole(t, a)
	b.Engine, b.CacheFrom = daemon.Address(), []string{"type=local,src=" + wholeCache()}
	takesAll(t, b, "tiny: pack disk") // which its engine did not need
}

// takesAll fails unless a build takes every step from another's cache.
func takesAll(t *testing.T, b build, but ...string) {
	t.Helper()
	r := b.do(t)
	if r.exit != 0 {
		t.Fatalf("exit code %d\n%s", r.exit, r.output)
	}
	equalsWhole(t, b)
	if states, ran := planned(t, r.output); !slices.Equal(ran, but) {
		t.Errorf("planned %v; steps that ran: %q, want %q\n%s", states, ran, but, r.output)
	}
}
