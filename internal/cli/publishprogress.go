package cli

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/publish"
)

// publishing's progress is that of a build whose stages are the places and their
// regions: each step of a plan is work, and what it sends are its bytes.
type publishProgress struct {
	display display.Display
	record  *progress.Recorder
}

// showPublishing starts the display of plans that are carried out on w.
func (f *progressFlag) showPublishing(ctx context.Context, w io.Writer, title string, plans []*publish.Plan) (publishProgress, error) {
	var lanes []string
	for _, plan := range plans {
		for i := range plan.Steps {
			if lane := laneOf(plan, &plan.Steps[i]); !slices.Contains(lanes, lane) {
				lanes = append(lanes, lane)
			}
		}
	}
	shown, err := f.show(ctx, w, title, lanes)
	if err != nil {
		return publishProgress{}, err
	}
	return publishProgress{shown, progress.NewRecorder(progress.Options{Emit: shown.Event})}, nil
}

// laneOf names what a step of a plan belongs to: the place, and the region in it.
func laneOf(plan *publish.Plan, step *publish.Step) string {
	return strings.TrimSpace(plan.Place + " " + step.Region)
}

// of returns the reporter of a plan.
func (p publishProgress) of(plan *publish.Plan) publish.Reporter {
	return &planReporter{record: p.record, plan: plan, works: map[string]*progress.Work{}}
}

// planReporter tells of a plan's steps as work.
type planReporter struct {
	record *progress.Recorder
	plan   *publish.Plan

	mu    sync.Mutex
	works map[string]*progress.Work // by the ID of the step, while it is under way
}

// with calls do for a step's work, if it is under way.
func (r *planReporter) with(step *publish.Step, do func(*progress.Work)) {
	r.mu.Lock()
	work := r.works[step.ID]
	r.mu.Unlock()
	if work != nil {
		do(work)
	}
}

// Begin implements publish.Reporter.
func (r *planReporter) Begin(step *publish.Step) {
	lane := laneOf(r.plan, step)
	work := r.record.Begin(lane, lane+": "+words(string(step.Action), step.Kind, step.Name))
	work.Expect(step.Bytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.works[step.ID] = work
}

// End implements publish.Reporter.
func (r *planReporter) End(step *publish.Step, err error) {
	r.with(step, func(w *progress.Work) { w.End(err) })
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.works, step.ID)
}

// Sent implements publish.Reporter.
func (r *planReporter) Sent(step *publish.Step, n int64) {
	r.with(step, func(w *progress.Work) { w.Add(n) })
}

// Retry implements publish.Reporter.
func (r *planReporter) Retry(step *publish.Step, err error, wait time.Duration) {
	r.with(step, func(w *progress.Work) { w.Log("again in %v: %v", wait.Round(100*time.Millisecond), err) })
}
