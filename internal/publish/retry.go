package publish

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Class says what can be done about an error.
type Class int

// The classes of errors.
const (
	Final     Class = iota // does not pass by itself
	Retryable              // may pass: try again after a while
	Throttled              // asked too often: everything at the place waits
)

// Classify tells errors of connections from others: those that any API has.
// A Plan's own Classify looks at what the API answered and leaves the rest to
// this one.
func Classify(err error) Class {
	if errors.Is(err, context.Canceled) {
		return Final
	}
	if _, ok := errors.AsType[temporary](err); ok {
		return Retryable
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return Retryable
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return Retryable
	}
	for _, broken := range []syscall.Errno{syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, broken) {
			return Retryable
		}
	}
	return Final
}

// temporary is an error that may pass.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

// Temporary marks an error that a publisher knows to pass although its kind does
// not say so.
func Temporary(err error) error { return temporary{err} }

// Policy is how often and how long to try again; the zero value is
// DefaultPolicy.
type Policy struct {
	// Tries bounds the tries, the first included.
	Tries uint
	// First is the wait after the first failure, Longest the greatest; in
	// between each is twice the one before, give or take a half, so that those who
	// failed together don't come back together.
	First, Longest time.Duration
}

// DefaultPolicy gives an API about five minutes to come back.
var DefaultPolicy = Policy{Tries: 12, First: 500 * time.Millisecond, Longest: time.Minute}

// waits returns the waits of one operation.
func (p Policy) waits() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: p.First, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: p.Longest}
}

// pace is what all operations at one place share: when the API next wants to be
// asked.
type pace struct {
	mu    sync.Mutex
	until time.Time
}

// hold keeps everyone back for a while.
func (p *pace) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
}

// wait returns when the API may be asked again.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	d := time.Until(p.until)
	p.mu.Unlock()
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retrier runs operations until they succeed, fail for good or were tried often
// enough.
type retrier struct {
	policy   Policy
	classify func(error) Class
	pace     *pace
}

func newRetrier(policy Policy, classify func(error) Class) *retrier {
	if policy == (Policy{}) {
		policy = DefaultPolicy
	}
	if classify == nil {
		classify = Classify
	}
	return &retrier{policy, classify, &pace{}}
}

// run tries do; failed, if it is not nil, hears of every failure that is tried
// again. An error that has a method RetryAfter says itself how long to wait.
func (r *retrier) run(ctx context.Context, do func(context.Context) error, failed func(err error, wait time.Duration)) error {
	waits := r.policy.waits()
	for try := uint(1); ; try++ {
		if err := r.pace.wait(ctx); err != nil {
			return err
		}
		err := do(ctx)
		if err == nil {
			return nil
		}
		class := r.classify(err)
		if ctx.Err() != nil || class == Final || try >= r.policy.Tries {
			return err
		}
		wait := waits.NextBackOff()
		if after, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok {
			wait = max(wait, after.RetryAfter())
		}
		if class == Throttled {
			r.pace.hold(wait)
		}
		if failed != nil {
			failed(err, wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Retry runs do until it succeeds, fails for good or was tried often enough: for
// the calls of Plan, List and Retract, which have no Run. classify may be nil.
func Retry(ctx context.Context, policy Policy, classify func(error) Class, do func(context.Context) error) error {
	return newRetrier(policy, classify).run(ctx, do, nil)
}
