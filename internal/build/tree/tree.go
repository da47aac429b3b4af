// Package tree builds a node's root file system and its disk as one graph.
//
// What comes in is a lock; what goes out are graph states (LLB) for the tools,
// the operating system, Kubernetes, the node and its disk. Each state depends
// on no more of the lock than it must: the operating system knows no
// Kubernetes, Kubernetes knows no operating system, and a user's file changes
// neither. The engine runs what its cache lacks, independent branches at once.
package tree

import (
	"context"
	"sync"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
	"nodesmith.dev/nodesmith/internal/transfer"
)

// Inputs is where bundles come from: a bundle.Store, which fetches what they lack,
// or a bundle.Plan, which says what that is.
type Inputs interface {
	Content(ctx context.Context, name string, files ...bundle.File) (llb.State, error)
	Lazy(ctx context.Context, name string, source bundle.Source) (llb.State, error)
}

// Builder makes graph states out of locks.
type Builder struct {
	engine  *engine.Engine
	inputs  Inputs
	cache   *fetch.Cache
	modules Modules
	images  string // directory of pulled container images
	record  *progress.Recorder

	mu           sync.Mutex
	stepPrograms map[string]llb.State // their bundles, by name
}

// Modules says where Go modules come from. It is asked when some are needed.
type Modules func(ctx context.Context) (gomodules.Config, error)

// New returns a builder that runs on an engine, with inputs from a store that
// the engine reads, packages from a cache, Go modules as modules says, and
// pulled container images in the directory images. What it downloads it tells to
// record.
func New(engine *engine.Engine, inputs Inputs, cache *fetch.Cache, modules Modules, images string, record *progress.Recorder) *Builder {
	return &Builder{engine: engine, inputs: inputs, cache: cache, modules: modules, images: images, record: record, stepPrograms: map[string]llb.State{}}
}

// fetched calls fetch, which brings what (of a stage) and takes lines about it, and
// tells the recorder how far that is. bytes is the size of it all, 0 where nobody
// knows it.
func fetched[T any](ctx context.Context, b *Builder, stage, what string, bytes int64, fetch func(ctx context.Context, log func(format string, args ...any)) (T, error)) (_ T, err error) {
	work := b.record.Begin(stage, "fetch "+what)
	defer func() { work.End(err) }()
	work.Expect(bytes)
	return fetch(transfer.Count(ctx, work.Add), work.Log)
}
