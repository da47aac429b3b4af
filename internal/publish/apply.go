package publish

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Reporter is told how a run goes; its methods may be called at once.
type Reporter interface {
	// Begin and End frame a step; err is nil if it was done.
	Begin(step *Step)
	End(step *Step, err error)
	// Sent says that n bytes more of the step's have arrived.
	Sent(step *Step, n int64)
}

// Run is what a step has while it is carried out.
type Run struct {
	step     *Step
	journal  *Journal
	reporter Reporter
}

// Note writes down what the step is about to make or made, on the disk before
// it returns; Get and GetOf read this step's and another step's notes.
func (r *Run) Note(key, value string) error { return r.journal.Note(r.step.ID, key, value) }

// Get returns this step's note, "" for none.
func (r *Run) Get(key string) string { return r.journal.Get(r.step.ID, key) }

// GetOf returns a note of another step, "" for none.
func (r *Run) GetOf(step, key string) string { return r.journal.Get(step, key) }

// Forget takes back the notes of a step whose thing is gone.
func (r *Run) Forget(step string) error { return r.journal.Forget(step) }

// Sent reports that n bytes more have arrived.
func (r *Run) Sent(n int64) { r.reporter.Sent(r.step, n) }

// Apply carries a plan out: steps that don't wait for each other run at once.
// After the first failure no further step begins; what is done stays, and the
// next run goes on from there.
func Apply(ctx context.Context, plan *Plan, journal *Journal, reporter Reporter) error {
	done := make(map[string]chan struct{}, len(plan.Steps))
	for _, s := range plan.Steps {
		if done[s.ID] != nil {
			return fmt.Errorf("plan for %s: two steps are called %s", plan.Place, s.ID)
		}
		for _, need := range s.Needs {
			if done[need] == nil {
				return fmt.Errorf("plan for %s: %s needs %s, which does not come before it", plan.Place, s.ID, need)
			}
		}
		done[s.ID] = make(chan struct{})
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range plan.Steps {
		step := &plan.Steps[i]
		group.Go(func() error {
			for _, need := range step.Needs {
				select {
				case <-done[need]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if step.Do != nil {
				reporter.Begin(step)
				err := step.Do(ctx, &Run{step, journal, reporter})
				reporter.End(step, err)
				if err != nil {
					return fmt.Errorf("%s: %s %s %s: %w", plan.Place, step.Action, step.Kind, step.Name, err)
				}
			}
			close(done[step.ID])
			return nil
		})
	}
	return group.Wait()
}
