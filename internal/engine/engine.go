// Package engine runs build graphs on BuildKit.
//
// What comes in is a graph (LLB) whose inputs are bundles (internal/bundle);
// what goes out is the graph's result: nothing but a warm cache, one small
// file, files in a folder, or, on the engine's machine, a directory to read while it
// is mounted. An Engine is embedded in this process, another
// process's on the same state directory, or a BuildKit elsewhere; everything above
// this package only composes graphs. A graph that was built before is answered from
// the cache, and an interrupted one goes on where it stopped. The embedded engine
// starts with the first graph: a build that has nothing to run never has one.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
)

// Options says where an engine lives and what it reads and writes.
type Options struct {
	// Root is the embedded engine's state directory: caches and snapshots, on a
	// file system that overlayfs can use.
	Root string
	// Remote is the engine to use in place of the embedded one.
	Remote Remote
	// Cache is shared with other engines.
	Cache Cache
	// Inputs is what bundles are read from.
	Inputs content.Store
	// Observe is given every event of every solve, of several at once if they run
	// at once, and may not keep it waiting; nil for none.
	Observe func(event *client.SolveStatus)
	// Log takes a line when something takes a while; nil for none.
	Log func(format string, args ...any)
	// MaxBytes bounds the embedded engine's cache; 0 means DefaultMaxBytes.
	MaxBytes int64
}

// DefaultMaxBytes bounds the embedded engine's cache: about eight Kubernetes
// versions on two operating systems.
const DefaultMaxBytes = 50 << 30

// Engine solves graphs. It is safe for concurrent use.
type Engine struct {
	options Options
	caches  caches
	// interrupted is closed when the command that opened the engine is to end: Close
	// then waits for nobody.
	interrupted <-chan struct{}

	mu     sync.Mutex
	conn   connection // the zero value until something needs the engine
	failed bool       // to start
}

// connection is a way to a running engine.
type connection struct {
	client *client.Client
	// joined says that another process runs the engine.
	joined bool
	// remote says that the engine is options.Remote.
	remote bool
	// doubt is told of failures of the engine that this process runs.
	doubt func(failure error)
	close func() error
}

// Open returns the engine that options name: the remote one, or one on
// options.Root, which the first process that needs it runs and others meanwhile
// join. A remote one is asked at once, so that one which can't be used fails before
// anything is downloaded; of the other, Open looks whether this host can run it.
func Open(ctx context.Context, options Options) (*Engine, error) {
	if options.Log == nil {
		options.Log = func(string, ...any) {}
	}
	if err := options.Remote.Validate(); err != nil {
		return nil, err
	}
	caches, err := options.Cache.parse()
	if err != nil {
		return nil, err
	}
	caches.announce(options.Log)
	e := &Engine{options: options, caches: caches, interrupted: ctx.Done()}
	if !e.Remote() {
		return e, hostHas()
	}
	e.conn, err = dial(ctx, options)
	return e, err
}

// Remote says whether the engine is a daemon that may be far away.
func (e *Engine) Remote() bool { return e.options.Remote.Address != "" }

// Close ends the engine. Steps of this process's own graphs are ended; while
// another process builds on it, Close waits for that, unless Open's ctx ends.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn.client == nil { // nothing needed it
		return nil
	}
	return e.conn.close()
}

// connection returns the way to the engine, which starts if it does not run.
func (e *Engine) connection(ctx context.Context) (_ connection, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn.client == nil {
		e.conn, err = embedded(ctx, e.options, e.interrupted)
		e.failed = err != nil
	}
	return e.conn, err
}

// Failed says that the engine did not start here. What BuildKit has opened then stays
// open: another engine on the same state would wait for this process's end.
func (e *Engine) Failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// replace connects anew after the process that ran the engine has gone: this
// one runs it now, or joins the next that does.
func (e *Engine) replace(ctx context.Context, gone connection) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn.client != gone.client { // another solve has done it
		return nil
	}
	_ = gone.close() // its other end has gone
	var err error
	e.conn, err = embedded(ctx, e.options, e.interrupted)
	return err
}

// Solve runs what the graph's cache lacks.
func (e *Engine) Solve(ctx context.Context, title string, state llb.State) error {
	return e.solveWith(ctx, title, state, func(*client.SolveOpt) {})
}

// Export solves the graph and copies the files of its result into the directory dest.
// Holes are filled with zeros, and take their time.
func (e *Engine) Export(ctx context.Context, title string, state llb.State, dest string) error {
	export := client.ExportEntry{Type: client.ExporterLocal, OutputDir: dest}
	return e.solveWith(ctx, title, state, func(o *client.SolveOpt) { o.Exports = []client.ExportEntry{export} })
}

// solveWith solves the graph with options that adjust has changed.
func (e *Engine) solveWith(ctx context.Context, title string, state llb.State, adjust func(*client.SolveOpt)) error {
	definition, err := definitionOf(ctx, title, state)
	if err != nil {
		return err
	}
	return e.watched(ctx, title, func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error {
		options := e.solveOptions()
		adjust(&options)
		_, err := c.Solve(ctx, definition, options, events)
		return err
	})
}

// definitionOf is the graph as the engine takes it.
func definitionOf(ctx context.Context, title string, state llb.State) (*llb.Definition, error) {
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	return definition, nil
}

// ReadFile solves the graph and returns one small file of its result.
func (e *Engine) ReadFile(ctx context.Context, title string, state llb.State, path string) ([]byte, error) {
	definition, err := definitionOf(ctx, title, state)
	if err != nil {
		return nil, err
	}
	var data []byte
	err = e.Build(ctx, title, nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		result, ref, err := solved(ctx, c, definition.ToPB())
		if err != nil {
			return nil, err
		}
		data, err = ref.ReadFile(ctx, gateway.ReadRequest{Filename: path})
		return result, err
	})
	return data, err
}

// solved solves a graph within a frontend.
func solved(ctx context.Context, c gateway.Client, definition *pb.Definition) (*gateway.Result, gateway.Reference, error) {
	imports, err := importsOf(c.BuildOpts().Opts)
	if err != nil {
		return nil, nil, err
	}
	result, err := c.Solve(ctx, gateway.SolveRequest{Definition: definition, Evaluate: true, CacheImports: imports})
	if err != nil {
		return nil, nil, err
	}
	ref, err := result.SingleRef()
	return result, ref, err
}

// Build runs a frontend of this process on the engine, and exports what it returns to
// where exports say. It runs once more, with the exports, if the process that ran the
// engine has gone away meanwhile.
func (e *Engine) Build(ctx context.Context, title string, exports []client.ExportEntry, frontend gateway.BuildFunc) error {
	return e.watched(ctx, title, func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error {
		return e.build(ctx, c, frontend, events, exports...)
	})
}

// build is one run of Build.
func (e *Engine) build(ctx context.Context, c *client.Client, frontend gateway.BuildFunc, events chan *client.SolveStatus, exports ...client.ExportEntry) error {
	options := e.solveOptions()
	options.Exports = exports
	_, err := c.Build(ctx, options, "nodesmith", frontend, events)
	return err
}

func (e *Engine) solveOptions() client.SolveOpt {
	options := client.SolveOpt{
		OCIStores:    map[string]content.Store{bundle.StoreID: e.options.Inputs},
		CacheImports: fresh(e.caches.from),
		// BuildKit's client writes what it imports into it.
		FrontendAttrs: map[string]string{},
	}
	if len(e.caches.from)+len(e.caches.to) > 0 {
		options.Session = credentials()
	}
	return options
}

// solveFunc runs one graph on an engine and closes the channel of its events.
type solveFunc func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error

// watched runs a solve while its events are shown. If the process that ran the
// engine goes away meanwhile, the solve goes on in this one.
func (e *Engine) watched(ctx context.Context, title string, solve solveFunc) error {
	for {
		if ctx.Err() != nil {
			return interruption(ctx, title)
		}
		conn, err := e.connection(ctx)
		if err != nil {
			return err
		}
		failure, tail := e.watch(func(events chan *client.SolveStatus) error { return solve(ctx, conn.client, events) })
		switch {
		case failure == nil:
			return nil
		case ctx.Err() != nil:
			return interruption(ctx, title)
		case conn.joined && grpcerrors.Code(failure) == codes.Unavailable:
			if err := e.replace(ctx, conn); err != nil {
				return err
			}
		case conn.remote && grpcerrors.Code(failure) == codes.Unavailable:
			return e.options.Remote.lost(title, failure)
		default:
			err := explain(title, failure, tail)
			if fault.KindOf(err) == fault.Engine && conn.doubt != nil {
				conn.doubt(failure)
			}
			return err
		}
	}
}

// interruption is the failure of what ctx ended.
func interruption(ctx context.Context, title string) error {
	return fault.New(fault.Interrupted, "run the same command again: it goes on where it stopped", "%s: %w", title, context.Cause(ctx))
}

// explain says which step failed, with its last lines.
func explain(title string, failure error, tail *tail) error {
	step, output := tail.failed()
	err := fmt.Errorf("%s: %w", title, failure)
	if step != "" {
		err = fmt.Errorf("%s: step %q: %w%s", title, step, rootCause(failure), output)
	}
	switch {
	case full(err):
		return fault.New(fault.NoSpace, "free some space, or set XDG_CACHE_HOME to a larger file system", "%w", err)
	case step == "":
		return fault.New(fault.Engine, "", "%w", err)
	case killed(err):
		return fault.New(fault.Engine, "a program of the step was killed, as the kernel does when memory runs out: "+
			"let less run beside the build, or give it more memory or swap, and run the same command again", "%w", err)
	}
	return fault.New(fault.Engine, "the step's last lines are above; --progress plain shows all of its output", "%w", err)
}

// full reports whether a full file system caused a failure: by the error number,
// or, where that came over a connection or out of a step, by its text.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(strings.ToLower(err.Error()), syscall.ENOSPC.Error())
}

// killed reports whether SIGKILL ended a step, or a program that it ran and waited
// for: the step's exit code is then that of a shell (128 and the signal), or it
// says so in Go's words (os.ProcessState.String).
func killed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "exit code: 137") || strings.Contains(text, "signal: killed")
}

// watch runs a solve once, passes its events on and keeps the output of steps.
func (e *Engine) watch(solve func(chan *client.SolveStatus) error) (failure error, _ *tail) {
	events := make(chan *client.SolveStatus)
	tail := newTail()
	var group errgroup.Group
	group.Go(func() error { return solve(events) })
	for event := range events { // to the end also where ctx ends: the engine still says how steps ended
		tail.add(event)
		// Who uses results says what that is.
		event.Vertexes = slices.DeleteFunc(event.Vertexes, func(v *client.Vertex) bool { return v.Name == usingResults })
		if e.options.Observe != nil {
			e.options.Observe(event)
		}
	}
	return group.Wait(), tail
}

// rootCause drops the engine's own wrapping, which repeats the whole graph.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
