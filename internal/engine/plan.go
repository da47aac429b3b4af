package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
)

// planFrontend is the name of the frontend that only the embedded engine has:
// it looks a graph up in the cache and runs nothing (planner_linux.go).
const planFrontend = "nodesmith.plan"

// planKey is under which a frontend's result has the plan, []PlannedStep as JSON.
const planKey = "nodesmith.plan"

// StepState is what will become of a step.
type StepState string

// The states.
const (
	// Cached: the engine has the result.
	Cached StepState = "cached"
	// Runs: the engine has no result that fits.
	Runs StepState = "runs"
	// Depends: whether it runs follows from what other steps make, which nobody
	// knows before they ran: where that is the same as before, the engine has
	// the result.
	Depends StepState = "depends"
	// Unneeded: the engine has no result, and nothing asks for it.
	Unneeded StepState = "unneeded"
)

// PlannedStep is one step of a graph, before it runs.
type PlannedStep struct {
	Digest digest.Digest `json:"digest"`
	Name   string        `json:"name"`
	State  StepState     `json:"state"`
	// DependsOn names the steps and inputs that decide, for Depends.
	DependsOn []string `json:"dependsOn,omitempty"`
}

// Plan says of every step of the graphs what Solve would do with it now, a step
// behind those it depends on. It runs no step and unpacks no input. Only the
// embedded engine can tell: others have no frontend that asks their cache.
func (e *Engine) Plan(ctx context.Context, title string, states ...llb.State) ([]PlannedStep, error) {
	if e.Remote() {
		return nil, fault.New(fault.Usage, "", "%s: the engine %s can't say what it has: only nodesmith's own can", title, e.options.Remote.Address)
	}
	if len(states) == 0 {
		return nil, nil
	}
	inputs := map[string]*pb.Definition{}
	for i, state := range states {
		definition, err := state.Marshal(ctx, llb.LinuxAmd64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", title, err)
		}
		inputs[fmt.Sprintf("%04d", i)] = definition.ToPB()
	}
	var data []byte
	err := e.watched(ctx, title, func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error {
		_, err := c.Build(ctx, e.solveOptions(), "nodesmith", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
			result, err := c.Solve(ctx, gateway.SolveRequest{Frontend: planFrontend, FrontendInputs: inputs})
			if err != nil {
				return nil, err
			}
			data = result.Metadata[planKey]
			return gateway.NewResult(), nil
		}, events)
		return err
	})
	if err != nil {
		return nil, err
	}
	var steps []PlannedStep
	if err := json.Unmarshal(data, &steps); err != nil {
		return nil, fmt.Errorf("%s: the engine's answer: %w", title, err)
	}
	return steps, nil
}
