package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Reporter is told how a run goes; its methods may be called at once.
type Reporter interface {
	// Begin and End frame a step; err is nil if it was done.
	Begin(step *Step)
	End(step *Step, err error)
	// Sent says that n bytes more of the step's have arrived.
	Sent(step *Step, n int64)
	// Retry says that something failed and is tried again after a wait.
	Retry(step *Step, err error, wait time.Duration)
}

// DefaultIdle is how long a try of a step may go without a sign of life, unless
// the step says otherwise.
const DefaultIdle = 10 * time.Minute

// errIdle is why a try is given up that shows no sign of life.
var errIdle = errors.New("no sign of life")

// Run is what a step has while it is carried out.
type Run struct {
	step     *Step
	journal  *Journal
	reporter Reporter
	retrier  *retrier
	alive    chan struct{}
}

// Note writes down what the step is about to make or made, on the disk before
// it returns; Get and GetOf read this step's and another step's notes.
func (r *Run) Note(key, value string) error {
	r.Alive()
	return r.journal.Note(r.step.ID, key, value)
}

// Get returns this step's note, "" for none.
func (r *Run) Get(key string) string { return r.journal.Get(r.step.ID, key) }

// GetOf returns a note of another step, "" for none.
func (r *Run) GetOf(step, key string) string { return r.journal.Get(step, key) }

// Forget takes back the notes of a step whose thing is gone.
func (r *Run) Forget(step string) error { return r.journal.Forget(step) }

// Sent reports that n bytes more have arrived.
func (r *Run) Sent(n int64) {
	r.Alive()
	r.reporter.Sent(r.step, n)
}

// Alive says that the step goes on, for those that wait for the infrastructure.
func (r *Run) Alive() {
	select {
	case r.alive <- struct{}{}:
	default: // said already
	}
}

// Retry runs a part of the step, such as the upload of one block, until it
// succeeds, fails for good or was tried often enough. When the API throttles
// one part, all parts at the place wait.
func (r *Run) Retry(ctx context.Context, part func(context.Context) error) error {
	return r.retrier.run(ctx, part, func(err error, wait time.Duration) {
		r.Alive()
		r.reporter.Retry(r.step, err, wait)
	})
}

// Options are how a plan is carried out.
type Options struct {
	Reporter Reporter
	Retry    Policy
}

// Apply carries a plan out: steps that don't wait for each other run at once. A
// step that fails in a way that may pass is run again. After the first failure
// for good no further step begins; what is done stays, and the next run goes on
// from there.
func Apply(ctx context.Context, plan *Plan, journal *Journal, o Options) error {
	done, err := plan.order()
	if err != nil {
		return err
	}
	a := applier{plan: plan, journal: journal, reporter: o.Reporter, retrier: newRetrier(o.Retry, plan.Classify)}
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
				if err := a.carryOut(ctx, step); err != nil {
					return fmt.Errorf("%s: %s %s %s: %w", plan.Place, step.Action, step.Kind, step.Name, err)
				}
			}
			close(done[step.ID])
			return nil
		})
	}
	return group.Wait()
}

// order checks that steps come after those that they need, and returns a channel
// for each that says that it is done.
func (p *Plan) order() (map[string]chan struct{}, error) {
	done := make(map[string]chan struct{}, len(p.Steps))
	for _, s := range p.Steps {
		if done[s.ID] != nil {
			return nil, fmt.Errorf("plan for %s: two steps are called %s", p.Place, s.ID)
		}
		for _, need := range s.Needs {
			if done[need] == nil {
				return nil, fmt.Errorf("plan for %s: %s needs %s, which does not come before it", p.Place, s.ID, need)
			}
		}
		done[s.ID] = make(chan struct{})
	}
	return done, nil
}

// applier is one call of Apply.
type applier struct {
	plan     *Plan
	journal  *Journal
	reporter Reporter
	retrier  *retrier
}

// carryOut runs a step until it is done or has failed for good, and writes down
// that it begins and that it is done.
func (a *applier) carryOut(ctx context.Context, step *Step) (err error) {
	a.reporter.Begin(step)
	defer func() { a.reporter.End(step, err) }()
	if err := a.journal.begin(step); err != nil {
		return err
	}
	run := &Run{step, a.journal, a.reporter, a.retrier, make(chan struct{}, 1)}
	err = run.Retry(ctx, func(ctx context.Context) error { return run.try(ctx) })
	switch {
	case err == nil:
		return a.journal.end(step)
	case errors.Is(err, errIdle), a.retrier.classify(err) != Final && fault.KindOf(err) == fault.Internal:
		return fault.New(fault.Remote, "run the same command again: it goes on where it stopped", "%w", err)
	}
	return err
}

// try runs the step once, and gives up when it shows no sign of life.
func (r *Run) try(ctx context.Context) error {
	idle := r.step.Idle
	if idle == 0 {
		idle = DefaultIdle
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		timer := time.NewTimer(idle)
		defer timer.Stop()
		for {
			select {
			case <-ended:
				return
			case <-r.alive:
				timer.Reset(idle)
			case <-timer.C:
				cancel(errIdle)
				return
			}
		}
	}()
	err := r.step.Do(ctx, r)
	close(ended)
	<-watched
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		err = fmt.Errorf("%w for %v: %w", errIdle, idle, context.DeadlineExceeded)
	}
	cancel(nil)
	return err
}
