package progress_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/progress"
)

// at is a moment of the test, in seconds.
func at(second int) *time.Time {
	t := time.Unix(int64(1000+second), 0)
	return &t
}

func vertex(name string, started, completed *time.Time, cached bool) *client.SolveStatus {
	return &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(name), Name: name, Started: started, Completed: completed, Cached: cached}}}
}

func stage(step string) string { name, _, _ := strings.Cut(step, ":"); return name }

func TestAStageTakesAsLongAsSomethingOfItIsUnderWay(t *testing.T) {
	r := progress.NewRecorder()
	for _, event := range []*client.SolveStatus{
		vertex("os: a", at(0), nil, false), vertex("os: a", at(0), at(10), false),
		vertex("os: b", at(5), at(12), false), // beside it
		vertex("os: c", at(20), at(21), false),
		vertex("node: d", at(21), at(21), true),
		vertex("input: e", at(0), at(30), false),
		vertex("disk: never begun", nil, nil, false),
	} {
		r.Add(event)
	}
	got := r.Stages([]string{"os", "node", "disk"}, stage)
	want := []progress.Stage{{Name: "os", Took: 13 * time.Second}, {Name: "node", Cached: true}, {Name: "disk", Cached: true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Two disks are two graphs, and share all but their last steps.
func TestAStepThatRanIsNotCachedBecauseTheNextGraphFindsIt(t *testing.T) {
	r := progress.NewRecorder()
	r.Add(vertex("os: a", at(0), at(10), false))
	r.Add(vertex("os: a", at(11), at(11), true))
	steps := r.Steps()
	if len(steps) != 1 || !steps[0].Ran() || steps[0].Completed != *at(10) {
		t.Errorf("%+v", steps)
	}
}

func TestWorkOutsideTheEngineIsAStageToo(t *testing.T) {
	r := progress.NewRecorder()
	r.Begin("lock")()
	if got := r.Stages([]string{"lock", "formats"}, stage); got[0].Cached || !got[1].Cached {
		t.Errorf("%+v", got)
	}
}
