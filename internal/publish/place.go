package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Classifier is what a Publisher may be besides: it tells the errors of its Plan,
// List and Retract apart as Plan.Classify tells those of steps.
type Classifier interface {
	Classify(err error) Class
}

// classifierOf returns how a publisher's errors are told apart.
func classifierOf(p Publisher) func(error) Class {
	if c, ok := p.(Classifier); ok {
		return c.Classify
	}
	return Classify
}

// MakePlan asks a publisher for its plan of publishing an image, again if that
// fails in a way that may pass.
func MakePlan(ctx context.Context, p Publisher, image Image, earlier State, policy Policy) (*Plan, error) {
	return ask(ctx, p, policy, func(ctx context.Context) (*Plan, error) { return p.Plan(ctx, image, earlier) })
}

// MakeRetract is MakePlan for taking an image away.
func MakeRetract(ctx context.Context, p Publisher, image digest.Digest, earlier State, policy Policy) (*Plan, error) {
	return ask(ctx, p, policy, func(ctx context.Context) (*Plan, error) { return p.Retract(ctx, image, earlier) })
}

// ListAll is MakePlan for the list of what is at a place.
func ListAll(ctx context.Context, p Publisher, policy Policy) ([]Published, error) {
	return ask(ctx, p, policy, p.List)
}

func ask[T any](ctx context.Context, p Publisher, policy Policy, question func(context.Context) (T, error)) (answer T, err error) {
	classify := classifierOf(p)
	err = Retry(ctx, policy, classify, func(ctx context.Context) (err error) {
		answer, err = question(ctx)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", p.Place(), err)
		if classify(err) != Final && fault.KindOf(err) == fault.Internal {
			err = fault.New(fault.Remote, "run the same command again", "%w", err)
		}
	}
	return answer, err
}

// Header is what a journal says of itself: which image goes to which place.
type Header struct {
	Place  string        `json:"place"`
	Image  string        `json:"image"`
	Digest digest.Digest `json:"digest"`
}

// headerStep is the ID of no step: under it a journal says what it is of.
const headerStep, headerKey = "~journal", "header"

// SetHeader writes down what the journal is of, unless it says so already.
func (j *Journal) SetHeader(h Header) error {
	value, err := json.Marshal(h)
	if err != nil || j.Get(headerStep, headerKey) == string(value) {
		return err
	}
	return j.Note(headerStep, headerKey, string(value))
}

// Header returns what the journal is of; nothing if it does not say.
func (s State) Header() (h Header) {
	_ = json.Unmarshal([]byte(s.Note(headerStep, headerKey)), &h) // nothing, then
	return h
}

// State returns a copy of what is noted.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.clone()
}
