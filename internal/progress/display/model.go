package display

import (
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/progress"
)

// keptLines is how much of a running step's output a frame can show.
const keptLines = 5

// Model is what is known of a build at one moment: all that a frame shows.
type Model struct {
	title  string
	began  time.Time
	stages []*stage
	steps  map[string]*step // by ID, while they run; failed ones stay
	// Ending says that the user wants the build to end.
	Ending bool
}

// stage sums up what was done for one stage.
type stage struct {
	name                 string
	done, cached, failed int
	running              int
	since                time.Time     // when running became more than 0
	took                 time.Duration // how long it was, before since
}

// step is a running step, or one that failed.
type step struct {
	id, title, stage string
	started          time.Time
	current, total   int64
	output           []string
	failed           bool
	seconds          float64 // of a failed one
}

// NewModel returns the model of a build in which nothing has happened. Title says
// what is built; stages are shown in their order.
func NewModel(title string, began time.Time, stages []string) *Model {
	m := &Model{title: title, began: began, steps: map[string]*step{}}
	for _, name := range stages {
		m.stages = append(m.stages, &stage{name: name})
	}
	return m
}

// Apply takes what happened into the model.
func (m *Model) Apply(e progress.Event) {
	switch e.Type {
	case progress.Message:
	case progress.Started:
		m.start(e)
	case progress.Output:
		if s := m.steps[e.ID]; s != nil && strings.TrimSpace(e.Text) != "" {
			s.output = append(s.output, e.Text)
			s.output = slices.Delete(s.output, 0, max(0, len(s.output)-keptLines))
		}
	case progress.Transferred:
		if s := m.steps[e.ID]; s != nil {
			s.current, s.total = e.CurrentBytes, e.TotalBytes
		}
	case progress.Cached, progress.Finished, progress.Failed, progress.Canceled:
		m.end(e)
	}
}

func (m *Model) start(e progress.Event) {
	if m.steps[e.ID] == nil {
		if of := m.stage(e.Stage); of != nil {
			if of.running == 0 {
				of.since = e.Time
			}
			of.running++
		}
	}
	m.steps[e.ID] = &step{id: e.ID, title: e.Step, stage: e.Stage, started: e.Time}
}

func (m *Model) end(e progress.Event) {
	s, of := m.steps[e.ID], m.stage(e.Stage)
	delete(m.steps, e.ID)
	if of != nil {
		if s != nil {
			of.running--
			if of.running == 0 {
				of.took += e.Time.Sub(of.since)
			}
		}
		switch {
		case e.Input():
		case e.Type == progress.Cached:
			of.cached++
		case e.Type == progress.Finished:
			of.done++
		}
	}
	if e.Type != progress.Failed {
		return
	}
	if s == nil {
		s = &step{id: e.ID, title: e.Step, stage: e.Stage, started: e.Time}
	}
	s.failed, s.seconds = true, e.Seconds
	if len(s.output) == 0 {
		s.output = []string{e.Error}
	}
	if of != nil {
		of.failed++
	}
	m.steps[e.ID+"/failed"] = s
}

// stage returns the stage of that name; nil for none.
func (m *Model) stage(name string) *stage {
	for _, s := range m.stages {
		if s.name == name {
			return s
		}
	}
	return nil
}

// of returns the stage's steps that are shown, the longest running one first.
func (m *Model) of(stage string) []*step {
	var all []*step
	for _, s := range m.steps {
		if s.stage == stage {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *step) int {
		if order := a.started.Compare(b.started); order != 0 {
			return order
		}
		return strings.Compare(a.title+a.id, b.title+b.id)
	})
	return all
}

// elapsed is how long something of the stage was under way until now.
func (s *stage) elapsed(now time.Time) time.Duration {
	if s.running > 0 {
		return s.took + now.Sub(s.since)
	}
	return s.took
}
