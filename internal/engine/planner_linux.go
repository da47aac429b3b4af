package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
	"github.com/opencontainers/go-digest"
)

// planner is a frontend that looks graphs up in the engine's cache, and in those
// that a build imports.
type planner struct {
	cache     solver.CacheManager
	workers   *worker.Controller
	importers map[string]remotecache.ResolveCacheImporterFunc
}

// Solve implements frontend.Frontend: its result is no tree but a plan of the
// graphs that are its inputs.
func (p *planner) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, _ executor.Executor, options map[string]string, inputs map[string]*pb.Definition, sid string, sessions *session.Manager) (*frontend.Result, error) {
	w, err := p.workers.GetDefault()
	if err != nil {
		return nil, err
	}
	imported, unread, err := p.imported(ctx, w, options, sid)
	if err != nil {
		return nil, err
	}
	lookup := newLookup(p.cache, imported, sid, func(v solver.Vertex) (solver.Op, error) {
		return w.ResolveOp(v, bridge, sessions, worker.ProxyOpt{})
	})
	var targets, others []solver.Edge
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		// As the solver loads them, or an operation's cache key would be another.
		target, err := llbsolver.Load(ctx, inputs[name], nil, llbsolver.NormalizeRuntimePlatforms())
		if err != nil {
			return nil, fmt.Errorf("graph %s: %w", name, err)
		}
		if strings.HasPrefix(name, asked) {
			targets = append(targets, target)
		} else {
			others = append(others, target)
		}
	}
	steps, err := lookup.plan(ctx, targets, others)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(answer{steps, unread})
	if err != nil {
		return nil, err
	}
	result := &frontend.Result{}
	result.AddMeta(planKey, data)
	return result, nil
}

// imported returns the caches of a build's imports, and says which of them can't be
// read: the build goes on without those.
func (p *planner) imported(ctx context.Context, w worker.Worker, options map[string]string, sid string) (caches []solver.CacheManager, unread []string, err error) {
	imports, err := importsOf(options)
	if err != nil {
		return nil, nil, err
	}
	for i, from := range imports {
		cache, err := p.read(ctx, w, from, strconv.Itoa(i), sid)
		if err != nil {
			where := from.Attrs[importAttributes[from.Type]]
			unread = append(unread, fmt.Sprintf("no cache to import from %s: %v", where, err))
			continue
		}
		caches = append(caches, cache)
	}
	return caches, unread, nil
}

// read returns one cache, of which it fetches the description alone.
func (p *planner) read(ctx context.Context, w worker.Worker, from gateway.CacheOptionsEntry, id, sid string) (solver.CacheManager, error) {
	resolve := p.importers[from.Type]
	if resolve == nil {
		return nil, fmt.Errorf("this engine imports from no %q", from.Type)
	}
	importer, description, err := resolve(ctx, session.NewGroup(sid), from.Attrs)
	if err != nil {
		return nil, err
	}
	return importer.Resolve(ctx, description, id, w)
}

// planJob is what operations ask of the job that they belong to.
type planJob struct{ sid string }

func (j planJob) Session() session.Group              { return session.NewGroup(j.sid) }
func (planJob) Cleanup(func() error) error            { return nil } // nothing is run that leaves something behind
func (j planJob) ResolverCache() solver.ResolverCache { return j }
func (planJob) CompatibilityVersion() (int, error)    { return compat.CompatibilityVersionCurrent, nil }
func (planJob) Lock(any) ([]any, func(any) error, error) {
	return nil, func(any) error { return nil }, nil
}

// need says whether an output of a step is asked for.
type need struct {
	asked bool
	// on names what decides whether it is asked for; nil if it is in any case.
	on []string
}

// or is the need of something that two steps ask for.
func (n need) or(other need) need {
	switch {
	case !n.asked:
		return other
	case !other.asked:
		return n
	case n.on == nil || other.on == nil:
		return need{asked: true}
	}
	return need{true, unique(n.on, other.on)}
}

func unique(names ...[]string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(names...))))
}

// plan says what becomes of every step that targets and others are made by if
// the targets are asked for, inputs first.
func (l *lookup) plan(ctx context.Context, targets, others []solver.Edge) ([]PlannedStep, error) {
	needs := map[edgeID]need{}
	for _, e := range slices.Concat(targets, others) {
		if _, err := l.edge(ctx, e); err != nil {
			return nil, err
		}
	}
	for _, target := range targets {
		needs[idOf(target)] = need{asked: true}
	}
	steps := map[digest.Digest]*PlannedStep{}
	for _, e := range slices.Backward(l.order) { // who asks comes before what is asked for
		n, f := needs[idOf(e)], l.edges[idOf(e)]
		step := f.becomes(e, n)
		if known := steps[step.Digest]; known == nil || rank[step.State] > rank[known.State] {
			steps[step.Digest] = &step
		}
		if !n.asked || f.record != nil {
			continue
		}
		for _, input := range e.Vertex.Inputs() {
			needs[idOf(input)] = needs[idOf(input)].or(f.asks(input, n))
		}
	}
	list := []PlannedStep{}
	for _, e := range l.order {
		step := steps[e.Vertex.Digest()]
		if _, is := source(e.Vertex); !is && step != nil {
			list = append(list, *step)
		}
		delete(steps, e.Vertex.Digest())
	}
	return list, nil
}

// rank says which state of its outputs is that of a step.
var rank = map[StepState]int{Unneeded: 0, Cached: 1, Depends: 2, Runs: 3}

// becomes says what becomes of a step for one of its outputs.
func (f *found) becomes(e solver.Edge, n need) PlannedStep {
	step := PlannedStep{Digest: e.Vertex.Digest(), Name: e.Vertex.Name(), State: Runs}
	switch {
	case f.record != nil:
		step.State = Cached
	case !n.asked:
		step.State = Unneeded
	case n.on != nil || f.unknown != nil:
		step.State, step.DependsOn = Depends, unique(n.on, f.unknown.names())
	}
	return step
}

// asks says whether a step that is needed asks for its input: it looks at the
// unknown ones first, and for the others only if it has to run.
func (f *found) asks(input solver.Edge, n need) need {
	if f.unknown == nil || f.unknown.has(input) {
		return n
	}
	return need{true, unique(n.on, f.unknown.names())}
}

// edges are outputs of steps.
type edges []solver.Edge

func (e edges) has(one solver.Edge) bool {
	return slices.ContainsFunc(e, func(other solver.Edge) bool { return idOf(other) == idOf(one) })
}

func (e edges) names() []string {
	var names []string
	for _, one := range e {
		names = append(names, one.Vertex.Name())
	}
	return names
}

// edgeID names an output of a step.
type edgeID struct {
	vertex digest.Digest
	output solver.Index
}

func idOf(e solver.Edge) edgeID { return edgeID{e.Vertex.Digest(), e.Index} }
