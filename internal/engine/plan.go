package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
)

// planFrontend is the name of the frontend that only nodesmith's own engine has:
// it looks a graph up in the cache and runs nothing (planner_linux.go). Another
// form of the answer takes another name: engines are shared between versions.
const planFrontend = "nodesmith.plan.2"

// planKey is under which a frontend's result has the answer as JSON.
const planKey = "nodesmith.plan"

// answer is what the frontend says.
type answer struct {
	Steps []PlannedStep `json:"steps"`
	// Unread says which caches could not be imported, and why.
	Unread []string `json:"unread,omitempty"`
}

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
	// Unknown: the engine is a BuildKit that can't be asked.
	Unknown StepState = "unknown"
)

// PlannedStep is one step of a graph, before it runs.
type PlannedStep struct {
	Digest digest.Digest `json:"digest"`
	Name   string        `json:"name"`
	State  StepState     `json:"state"`
	// DependsOn names the steps and inputs that decide, for Depends.
	DependsOn []string `json:"dependsOn,omitempty"`
}

// asked begins the names of the graphs that are solved, in a frontend's inputs.
const asked = "asked "

// Plan says of every step of the graphs what Solve would do with it now if it
// were given those of solve, a step behind those it depends on. It runs no step
// and unpacks no input. A BuildKit that is no nodesmith's can't be asked: there
// is no frontend there that looks into its cache.
func (e *Engine) Plan(ctx context.Context, title string, solve, others []llb.State) ([]PlannedStep, error) {
	inputs := map[string]*pb.Definition{}
	for i, state := range slices.Concat(solve, others) {
		definition, err := definitionOf(ctx, title, state)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%04d", i)
		if i < len(solve) {
			name = asked + name
		}
		inputs[name] = definition.ToPB()
	}
	if len(inputs) == 0 {
		return nil, nil
	}
	data, err := e.ask(ctx, title, inputs)
	if err != nil && strings.Contains(err.Error(), "invalid frontend: "+planFrontend) {
		if e.Remote() {
			return unasked(inputs)
		}
		return nil, fault.New(fault.Engine, "wait until it has ended, then plan again",
			"%s: the engine in %s is run by another nodesmith, of a version that can't plan", title, e.options.Root)
	}
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("%s: the engine's answer: %w", title, err)
	}
	for _, line := range a.Unread {
		e.options.Log("%s", line)
	}
	return a.Steps, nil
}

// ask solves the frontend on graphs, and returns its answer.
func (e *Engine) ask(ctx context.Context, title string, inputs map[string]*pb.Definition) (data []byte, err error) {
	err = e.Build(ctx, title, nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		request := gateway.SolveRequest{Frontend: planFrontend, FrontendInputs: inputs}
		if imports := c.BuildOpts().Opts[importsKey]; imports != "" {
			request.FrontendOpt = map[string]string{importsKey: imports}
		}
		result, err := c.Solve(ctx, request)
		if err != nil {
			return nil, err
		}
		data = result.Metadata[planKey]
		return gateway.NewResult(), nil
	})
	return data, err
}

// unasked lists the steps of graphs without asking an engine.
func unasked(inputs map[string]*pb.Definition) ([]PlannedStep, error) {
	var steps []PlannedStep
	seen := map[digest.Digest]bool{}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(inputs))) { // the asked ones first: they decide
		state := Unneeded
		if strings.HasPrefix(name, asked) {
			state = Unknown
		}
		for _, data := range inputs[name].Def { // inputs first
			var op pb.Op
			if err := op.Unmarshal(data); err != nil {
				return nil, err
			}
			d := digest.FromBytes(data)
			if op.Op == nil || op.GetSource() != nil || seen[d] {
				continue
			}
			seen[d] = true
			steps = append(steps, PlannedStep{Digest: d, Name: inputs[name].Metadata[string(d)].GetDescription()["llb.customname"], State: state})
		}
	}
	return steps, nil
}
