package progress_test

import (
	"context"
	"errors"
	"fmt"
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
	r := progress.NewRecorder(progress.Options{StageOf: stage})
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
	got := r.Stages([]string{"os", "node", "disk"})
	want := []progress.Stage{{Name: "os", Took: 13 * time.Second}, {Name: "node", Cached: true}, {Name: "disk", Cached: true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Two disks are two graphs, and share all but their last steps.
func TestAStepThatRanIsNotCachedBecauseTheNextGraphFindsIt(t *testing.T) {
	r := progress.NewRecorder(progress.Options{StageOf: stage})
	r.Add(vertex("os: a", at(0), at(10), false))
	r.Add(vertex("os: a", at(11), at(11), true))
	steps := r.Steps()
	if len(steps) != 1 || !steps[0].Ran() || steps[0].Completed != *at(10) {
		t.Errorf("%+v", steps)
	}
}

// The events are those of BuildKit for a result that lies in another's cache.
func TestAStepWhoseResultIsImportedIsCached(t *testing.T) {
	var told []string
	r := progress.NewRecorder(progress.Options{StageOf: stage, Emit: func(e progress.Event) { told = append(told, string(e.Type)) }})
	for _, event := range []*client.SolveStatus{
		vertex("os: a", nil, nil, false), vertex("os: a", at(0), nil, true), vertex("os: a", at(1), nil, false),
		vertex("os: a", at(1), at(5), false), vertex("os: a", at(5), nil, false), vertex("os: a", at(5), at(6), false),
		vertex("os: a", at(0), at(6), true),
	} {
		r.Add(event)
	}
	if steps := r.Steps(); len(steps) != 1 || !steps[0].Cached || steps[0].Ran() {
		t.Errorf("%+v", steps)
	}
	if !slices.Equal(told, []string{string(progress.Cached)}) {
		t.Errorf("told %q", told)
	}
}

func TestWorkOutsideTheEngineIsAStageToo(t *testing.T) {
	r := progress.NewRecorder(progress.Options{StageOf: stage})
	r.Begin("lock", "lock").End(nil)
	if got := r.Stages([]string{"lock", "formats"}); got[0].Cached || !got[1].Cached {
		t.Errorf("%+v", got)
	}
}

func TestTheBytesOfWorkAreToldAFewTimesASecond(t *testing.T) {
	r, lines := told()
	w := r.Begin("os", "fetch packages")
	w.Expect(3000)
	for range 3000 {
		w.Add(1)
	}
	w.End(nil)
	r.Begin("os", "nothing to fetch").End(nil)
	got := lines()
	if len(got) < 5 || len(got) > 1500 || got[1] != "transferred fetch packages | 1 of 3000" || got[len(got)-3] != "finished fetch packages | 3000 of 3000" {
		t.Errorf("%q", got)
	}
	if last := got[len(got)-1]; last != "finished nothing to fetch" {
		t.Error(last)
	}
}

// told returns a recorder and what it has told, as short lines.
func told() (*progress.Recorder, func() []string) {
	var lines []string
	r := progress.NewRecorder(progress.Options{StageOf: stage, Emit: func(e progress.Event) {
		line := fmt.Sprintf("%s %s", e.Type, e.Step)
		for _, more := range []string{e.Text, e.Error} {
			if more != "" {
				line += " | " + more
			}
		}
		if e.CurrentBytes > 0 {
			line += fmt.Sprintf(" | %d of %d", e.CurrentBytes, e.TotalBytes)
		}
		lines = append(lines, line)
	}})
	return r, func() []string { return lines }
}

func TestAStepIsToldFromItsBeginningToItsEnd(t *testing.T) {
	r, lines := told()
	d := digest.FromString("os: a")
	for _, event := range []*client.SolveStatus{
		vertex("os: a", nil, nil, false), // is of the graph
		vertex("os: a", at(0), nil, false), vertex("os: a", at(0), nil, false),
		{Logs: []*client.VertexLog{{Vertex: d, Stream: 1, Data: []byte("one\ntw")}, {Vertex: d, Stream: 2, Data: []byte("bad")}}},
		{
			Vertexes: vertex("os: a", at(0), at(2), false).Vertexes,
			Logs:     []*client.VertexLog{{Vertex: d, Stream: 1, Data: []byte("o\n")}},
		},
		vertex("os: a", at(0), at(2), false), // again, by the end of the graph
		vertex("os: a", at(3), at(3), true),  // the next graph finds it
		vertex("node: b", at(3), at(3), true), vertex("node: b", at(4), at(4), true),
	} {
		r.Add(event)
	}
	want := []string{"started os: a", "output os: a | one", "output os: a | two", "output os: a | bad", "finished os: a", "cached node: b"}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAFailureIsToldApartFromWhatItEnded(t *testing.T) {
	r, lines := told()
	for name, err := range map[string]string{"os: a": "exit\ncode: 1", "os: b": "exit code: 137: context canceled: context canceled"} {
		r.Add(vertex(name, at(0), nil, false))
		ended := vertex(name, at(0), at(1), false)
		ended.Vertexes[0].Error = err
		r.Add(ended)
	}
	got := lines()
	slices.Sort(got)
	if want := []string{"canceled os: b", "failed os: a | exit code: 1", "started os: a", "started os: b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLargeInputsAreToldWithTheirBytes(t *testing.T) {
	r, lines := told()
	blob := digest.FromString("blob").String()
	status := func(input, id string, current, total int64, second int, done bool) {
		s := &client.VertexStatus{Vertex: digest.FromString(input), ID: id, Current: current, Total: total, Timestamp: *at(second), Started: at(0)}
		if done {
			s.Completed = at(second)
		}
		r.Add(&client.SolveStatus{Statuses: []*client.VertexStatus{s}})
	}
	const packages = "input: os: packages"
	r.Add(vertex(packages, at(0), nil, false))
	status(packages, "resolve a", 0, 0, 0, false)
	status(packages, blob, 1<<20, 4<<20, 1, false)
	status(packages, blob, 2<<20, 4<<20, 1, false) // too soon
	status(packages, blob, 4<<20, 4<<20, 2, true)
	status(packages, blob, 4<<20, 4<<20, 3, true)
	status(packages, "extracting "+blob, 0, 0, 3, false)
	status(packages, "extracting "+blob, 0, 0, 4, true)
	r.Add(vertex(packages, at(0), at(5), false))
	r.Add(vertex("input: os: configuration", at(0), nil, false))
	status("input: os: configuration", digest.FromString("small").String(), 4096, 4096, 1, true)
	want := []string{
		"started " + packages, "transferred " + packages + " | 1048576 of 4194304", "finished " + packages + " | 4194304 of 4194304",
		"started " + packages + ": unpack", "finished " + packages + ": unpack",
	}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWorkIsToldLikeAStep(t *testing.T) {
	r, lines := told()
	w := r.Begin("lock", "lock modules")
	w.Log("resolving %s", "etcd")
	w.End(nil)
	r.Begin("lock", "lock an image").End(errors.New("no\nroute"))
	r.Begin("lock", "lock another").End(context.Canceled)
	r.Message("a %s\x1b[31m", "message")
	want := []string{
		"started lock modules", "output lock modules | resolving etcd", "finished lock modules",
		"started lock an image", "failed lock an image | no route", "started lock another", "canceled lock another", "message  | a message",
	}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
