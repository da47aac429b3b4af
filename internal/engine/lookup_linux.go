package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/bundle"
)

// lookup finds out what a solver would find in its cache, edge by edge as
// BuildKit's solver does (solver/edge.go): first by what steps are defined by,
// then, where that finds nothing, by the content of what goes into them. Where
// that content is made by a step that will run, or would first be imported, it is
// not known.
//
// Nothing is written: the cache is asked for one key at a time, for which it
// adds no links. Memory grows with the number of steps.
type lookup struct {
	own     solver.CacheManager // the engine's
	cache   solver.CacheManager // and what is imported
	sid     string
	resolve func(solver.Vertex) (solver.Op, error)
	maps    map[digest.Digest]*solver.CacheMap
	// opts say where inputs are read from that the engine knows but does not hold.
	opts  solver.CacheOpts
	fast  map[edgeID]keys
	edges map[edgeID]*found
	order []solver.Edge // of the edges, inputs first
}

// keys are cache keys by their identifiers in the cache.
type keys map[string]*solver.CacheKey

// found is what the cache has for an output of a step.
type found struct {
	keys   keys
	record *solver.CacheRecord // nil for none
	// here says that the record's result is the engine's own.
	here bool
	// unknown are the inputs on whose content it depends whether there is one.
	unknown edges
	// open says that the step may get a key which the cache has, once it ran.
	open bool
}

func newLookup(own solver.CacheManager, imported []solver.CacheManager, sid string, resolve func(solver.Vertex) (solver.Op, error)) *lookup {
	cache := own
	if len(imported) > 0 {
		cache = solver.NewCombinedCacheManager(append([]solver.CacheManager{own}, imported...), own)
	}
	return &lookup{
		own: own, cache: cache, sid: sid, resolve: resolve, maps: map[digest.Digest]*solver.CacheMap{}, opts: solver.CacheOpts{},
		fast: map[edgeID]keys{}, edges: map[edgeID]*found{},
	}
}

// source says whether a vertex is an input, and not a step.
func source(v solver.Vertex) (op *pb.SourceOp, is bool) {
	base, ok := v.Sys().(*pb.Op)
	if !ok {
		return nil, false
	}
	op = base.GetSource()
	return op, op != nil
}

// placeholder says whether a vertex stands for an input that has not been
// fetched: what it holds is known, but not under which digest.
func placeholder(v solver.Vertex) bool {
	op, is := source(v)
	return is && strings.HasPrefix(op.Identifier, bundle.PlaceholderPrefix)
}

// cacheMap returns how the cache knows a vertex.
func (l *lookup) cacheMap(ctx context.Context, v solver.Vertex) (*solver.CacheMap, error) {
	if m, ok := l.maps[v.Digest()]; ok {
		return m, nil
	}
	op, err := l.resolve(v)
	if err != nil {
		return nil, err
	}
	m, _, err := op.CacheMap(ctx, planJob{l.sid}, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.Name(), err)
	}
	if len(m.Deps) != len(v.Inputs()) {
		return nil, fmt.Errorf("%s: %d inputs, and the cache knows %d", v.Name(), len(v.Inputs()), len(m.Deps))
	}
	maps.Copy(l.opts, m.Opts)
	l.maps[v.Digest()] = m
	return m, nil
}

// context lets the cache ask for the options of all inputs.
func (l *lookup) context(ctx context.Context) context.Context {
	return solver.WithCacheOptGetter(ctx, func(_ bool, wanted ...any) map[any]any {
		values := map[any]any{}
		for _, key := range wanted {
			if value, ok := l.opts[key]; ok {
				values[key] = value
			}
		}
		return values
	})
}

// byDefinition returns the keys that follow from definitions alone.
func (l *lookup) byDefinition(ctx context.Context, e solver.Edge) (keys, error) {
	if known, ok := l.fast[idOf(e)]; ok {
		return known, nil
	}
	result, err := l.defined(ctx, e)
	if err != nil {
		return nil, err
	}
	l.fast[idOf(e)] = result
	return result, nil
}

func (l *lookup) defined(ctx context.Context, e solver.Edge) (keys, error) {
	v := e.Vertex
	if placeholder(v) {
		return nil, nil
	}
	m, err := l.cacheMap(ctx, v)
	if err != nil {
		return nil, err
	}
	if _, is := source(v); is {
		key := solver.NewCacheKey(m.Digest, v.Digest(), e.Index)
		return keys{key.ID: key}, nil
	}
	if len(v.Inputs()) == 0 {
		return l.query(nil, 0, m, e)
	}
	var common keys
	for i, input := range v.Inputs() {
		of, err := l.byDefinition(ctx, input)
		if err != nil {
			return nil, err
		}
		matched, err := l.behind(of, i, m, e)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			common = matched
		}
		common = common.and(matched)
	}
	return common, nil
}

// behind returns the keys of e that the cache links to keys of its input i.
func (l *lookup) behind(of keys, i int, m *solver.CacheMap, e solver.Edge) (keys, error) {
	matched := keys{}
	for _, key := range of {
		with := solver.CacheKeyWithSelector{Selector: m.Deps[i].Selector, CacheKey: solver.ExportableCacheKey{CacheKey: key}}
		more, err := l.query([]solver.CacheKeyWithSelector{with}, i, m, e)
		if err != nil {
			return nil, err
		}
		maps.Copy(matched, more)
	}
	return matched, nil
}

func (l *lookup) query(input []solver.CacheKeyWithSelector, i int, m *solver.CacheMap, e solver.Edge) (keys, error) {
	list, err := l.cache.Query(input, solver.Index(i), m.Digest, e.Index)
	if err != nil {
		return nil, err
	}
	result := keys{}
	for _, key := range list {
		result[key.ID] = key
	}
	return result, nil
}

// and returns what is in both.
func (k keys) and(other keys) keys {
	both := keys{}
	for id, key := range k {
		if _, ok := other[id]; ok {
			both[id] = key
		}
	}
	return both
}

// record returns a result that the cache has under one of the keys, the engine's
// own (here) if it has one; nil for none.
func (l *lookup) record(ctx context.Context, of keys) (_ *solver.CacheRecord, here bool, _ error) {
	for _, cache := range []solver.CacheManager{l.own, l.cache} {
		for _, key := range of {
			records, err := cache.Records(l.context(ctx), key)
			if err != nil {
				return nil, false, err
			}
			if len(records) > 0 {
				return records[0], cache == l.own, nil
			}
		}
	}
	return nil, false, nil
}

// edge looks up an output of a step, and all that go into it.
func (l *lookup) edge(ctx context.Context, e solver.Edge) (*found, error) {
	if known, ok := l.edges[idOf(e)]; ok {
		return known, nil
	}
	f := &found{}
	var err error
	if f.keys, err = l.byDefinition(ctx, e); err != nil {
		return nil, err
	}
	if _, is := source(e.Vertex); is {
		f.open = placeholder(e.Vertex)
	} else if f.record, f.here, err = l.record(ctx, f.keys); err != nil {
		return nil, err
	}
	for _, input := range e.Vertex.Inputs() {
		if _, err := l.edge(ctx, input); err != nil {
			return nil, err
		}
	}
	if f.record == nil && len(e.Vertex.Inputs()) > 0 {
		if err := l.byContent(ctx, e, f); err != nil {
			return nil, err
		}
	}
	l.edges[idOf(e)] = f
	l.order = append(l.order, e)
	return f, nil
}

// byContent goes on where definitions have found nothing.
func (l *lookup) byContent(ctx context.Context, e solver.Edge, f *found) error {
	m, err := l.cacheMap(ctx, e.Vertex)
	if err != nil {
		return err
	}
	var common, sure keys // of all inputs, and of those that are known
	for i, input := range e.Vertex.Inputs() {
		matched, known, err := l.input(ctx, e, i, m)
		if err != nil {
			return err
		}
		if common == nil {
			common = matched
		}
		common = common.and(matched)
		switch {
		case !known:
			f.unknown = append(f.unknown, input)
		case sure == nil:
			sure = matched
		default:
			sure = sure.and(matched)
		}
	}
	f.keys = common
	if f.record, f.here, err = l.record(ctx, common); err != nil || f.record != nil || len(f.unknown) == 0 {
		f.unknown = nil
		return err
	}
	if sure == nil { // nothing at all is known
		f.open = true
		return nil
	}
	f.open = len(sure) > 0
	possible, _, err := l.record(ctx, sure)
	if possible == nil {
		f.unknown = nil // it runs, whatever they hold
	}
	return err
}

// input returns which keys of e fit its input i, and whether they are all that
// will fit once the input is there.
func (l *lookup) input(ctx context.Context, e solver.Edge, i int, m *solver.CacheMap) (matched keys, known bool, err error) {
	input := e.Vertex.Inputs()[i]
	in, err := l.edge(ctx, input)
	if err != nil {
		return nil, false, err
	}
	if matched, err = l.behind(in.keys, i, m, e); err != nil {
		return nil, false, err
	}
	// A bundle's digest follows from its content, and its content from its
	// digest: it need not be unpacked to compare what is in it.
	_, is := source(input.Vertex)
	compute := m.Deps[i].ComputeDigestFunc
	switch {
	case is || compute == nil:
		return matched, !in.open, nil
	case in.record == nil || !in.here:
		return matched, false, nil
	}
	content, err := l.content(ctx, in.record, compute)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", input.Vertex.Name(), err)
	}
	with := solver.CacheKeyWithSelector{CacheKey: solver.ExportableCacheKey{CacheKey: solver.NewCacheKey(content, "", -1)}}
	more, err := l.query([]solver.CacheKeyWithSelector{with}, i, m, e)
	maps.Copy(matched, more)
	return matched, true, err
}

// content returns the digest of what a result holds.
func (l *lookup) content(ctx context.Context, record *solver.CacheRecord, compute solver.ResultBasedCacheFunc) (_ digest.Digest, err error) {
	ctx = l.context(ctx)
	result, err := l.own.Load(ctx, record)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, result.Release(context.WithoutCancel(ctx))) }()
	return compute(ctx, result, planJob{l.sid}.Session())
}
