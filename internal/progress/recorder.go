// Package progress follows what a build does.
//
// What comes in are the engine's events and the times of work outside it; what
// goes out is, while it runs, a display, and at its end what each step and each
// stage took. A step that two graphs share is one step. Memory grows with the
// number of steps, not with their output.
package progress

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/bundle"
)

// Step is one step of a graph, or the reading of one of its inputs.
type Step struct {
	Digest digest.Digest
	Name   string
	// Started and Completed are zero for what did not begin, or end.
	Started, Completed time.Time
	// Cached says that nothing was run: the engine had the result.
	Cached bool
	Error  string
}

// Ran says whether the step was run to its end.
func (s Step) Ran() bool { return !s.Completed.IsZero() && !s.Cached && s.Error == "" }

// Input says whether the step only reads what others use.
func (s Step) Input() bool { return strings.HasPrefix(s.Name, bundle.Prefix) }

// Recorder keeps what was done. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	steps map[digest.Digest]*Step
	spans map[string][]span
}

// span is a time in which something was under way.
type span struct{ from, to time.Time }

// NewRecorder returns an empty one.
func NewRecorder() *Recorder {
	return &Recorder{steps: map[digest.Digest]*Step{}, spans: map[string][]span{}}
}

// Add takes an event of the engine.
func (r *Recorder) Add(event *client.SolveStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range event.Vertexes {
		s := r.steps[v.Digest]
		if s == nil {
			s = &Step{Digest: v.Digest, Name: v.Name}
			r.steps[v.Digest] = s
		}
		if s.Ran() { // by an earlier graph: this one finds it in the cache
			continue
		}
		if v.Started != nil {
			s.Started = *v.Started
		}
		if v.Completed != nil {
			s.Completed, s.Cached, s.Error = *v.Completed, v.Cached, v.Error
		}
	}
}

// Begin notes that work outside the engine begins, for a stage; what it returns
// notes the end.
func (r *Recorder) Begin(stage string) (end func()) {
	from := time.Now()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.spans[stage] = append(r.spans[stage], span{from, time.Now()})
	}
}

// Steps returns every step that began, in the order of their beginning.
func (r *Recorder) Steps() []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Step
	for _, s := range r.steps {
		if !s.Started.IsZero() {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b Step) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.Name, b.Name), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	return all
}

// Stage is what was done for one stage.
type Stage struct {
	Name string
	// Took is how long something of it was under way.
	Took time.Duration
	// Cached says that nothing of it had to be done.
	Cached bool
}

// Stages sums up the named stages; stageOf says to which one a step belongs.
// Reading an input counts for the time only: it has its own step.
func (r *Recorder) Stages(names []string, stageOf func(step string) string) []Stage {
	steps := r.Steps()
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := map[string][]span{}
	for name, of := range maps.All(r.spans) {
		spans[name] = slices.Clone(of)
	}
	for _, s := range steps {
		if s.Ran() && !s.Input() {
			stage := stageOf(s.Name)
			spans[stage] = append(spans[stage], span{s.Started, s.Completed})
		}
	}
	var stages []Stage
	for _, name := range names {
		stages = append(stages, Stage{Name: name, Took: union(spans[name]), Cached: len(spans[name]) == 0})
	}
	return stages
}

// union is how long at least one of the spans lasts.
func union(spans []span) (sum time.Duration) {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var end time.Time
	for _, s := range spans {
		if s.from.Before(end) {
			s.from = end
		}
		if s.to.After(s.from) {
			sum += s.to.Sub(s.from)
			end = s.to
		}
	}
	return sum
}
