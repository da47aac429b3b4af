package publish

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Action is what a step does to the thing that it names.
type Action string

// The actions of a plan.
const (
	Create Action = "create"
	Resume Action = "resume" // what an earlier run began
	Exists Action = "exists" // nothing to do
	Change Action = "change" // tags, sharing, a template's mark
	Delete Action = "delete"
	Keep   Action = "keep" // would go, but is in use
)

// Plan is what would be done at one place for one image.
type Plan struct {
	Place string
	Image digest.Digest
	// Steps are in an order in which they could run one by one.
	Steps []Step
	// Classify tells the place's errors apart; nil for those of connections
	// alone (the function Classify).
	Classify func(error) Class
}

// Bytes is how much the plan sends at most.
func (p *Plan) Bytes() (sum int64) {
	for _, s := range p.Steps {
		sum += s.Bytes
	}
	return sum
}

// Step makes, changes or takes away one thing.
type Step struct {
	// ID is unique in the plan and the same in every run: "us-east-1/snapshot".
	ID string
	// Needs are the IDs of the steps that must be done before.
	Needs  []string
	Action Action
	// Region, Kind and Name say what the step is about: us-east-1, "snapshot".
	Region, Kind, Name string
	// Bytes is how much the step sends at most.
	Bytes int64
	// Idle is how long a try may go without a sign of life (a note, bytes sent,
	// Alive); 0 means DefaultIdle.
	Idle time.Duration
	// Why explains the action where it is no matter of course: "in use by i-0123".
	Why string
	// Do carries the step out; nil where nothing is to do. It is run again after
	// a failure that may pass, or by the next run after a kill: it first looks
	// for what an earlier try made.
	Do func(ctx context.Context, run *Run) error
}
