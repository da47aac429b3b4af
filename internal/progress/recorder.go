// Package progress follows what a build does.
//
// What comes in are the engine's events and work outside it; what goes out are,
// while it runs, events of one shape (Event), and at its end what each step and
// each stage took. A step that two graphs share is one step. Memory grows with the
// number of steps, not with their output. internal/progress/display shows events.
package progress

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

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

// Options are what a recorder is given.
type Options struct {
	// StageOf says to which stage a step belongs; "" for none.
	StageOf func(step string) string
	// Emit takes each event, one after the other; nil for none.
	Emit func(Event)
}

// Recorder keeps what was done. It is safe for concurrent use.
type Recorder struct {
	options Options

	mu     sync.Mutex
	steps  map[digest.Digest]*Step
	spans  map[string][]span
	output map[stream]*lines
	reads  map[digest.Digest]*read
	works  int
	done   []Step // works that ended well
}

// span is a time in which something was under way.
type span struct{ from, to time.Time }

// NewRecorder returns an empty one.
func NewRecorder(options Options) *Recorder {
	if options.Emit == nil {
		options.Emit = func(Event) {}
	}
	return &Recorder{
		options: options, steps: map[digest.Digest]*Step{}, spans: map[string][]span{},
		output: map[stream]*lines{}, reads: map[digest.Digest]*read{},
	}
}

// Message passes a line on that is of no step.
func (r *Recorder) Message(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.options.Emit(Event{Time: time.Now(), Type: Message, Text: clean(fmt.Appendf(nil, format, args...))})
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

// Work returns what was done outside the engine, each as a step without a digest.
func (r *Recorder) Work() []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.done)
}

// Stage is what was done for one stage.
type Stage struct {
	Name string
	// Took is how long something of it was under way.
	Took time.Duration
	// Cached says that nothing of it had to be done.
	Cached bool
}

// Stages sums up the named stages. Reading an input counts for the time only: it
// has its own step.
func (r *Recorder) Stages(names []string) []Stage {
	steps := r.Steps()
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := map[string][]span{}
	for name, of := range maps.All(r.spans) {
		spans[name] = slices.Clone(of)
	}
	for _, s := range steps {
		if s.Ran() && !s.Input() {
			stage := r.options.StageOf(s.Name)
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
