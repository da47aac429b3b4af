package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"
)

// Own says whether this process runs the engine, which it starts if nobody does: only
// then Mounted can be used.
func (e *Engine) Own(ctx context.Context) (bool, error) {
	conn, err := e.connection(ctx)
	return err == nil && !conn.joined && !conn.remote, err
}

// Mounted solves the graphs, and gives use a directory for each, where its result can
// be read until use returns. Nothing is copied. The process has to run the engine: see
// Own. What use returns is returned as it is.
func (e *Engine) Mounted(ctx context.Context, title string, states []llb.State, use func(dirs []string) error) error {
	own, err := e.Own(ctx)
	if err != nil {
		return err
	}
	if !own {
		return fmt.Errorf("%s: results can be mounted only where the engine runs", title)
	}
	definitions := make([]*pb.Definition, len(states))
	for i, state := range states {
		definition, err := state.Marshal(ctx, llb.LinuxAmd64)
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
		definitions[i] = definition.ToPB()
	}
	u := e.options.uses.add(use)
	export := client.ExportEntry{Type: mountExporter, Attrs: map[string]string{useAttribute: u.id}}
	err = e.watched(ctx, title, func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error {
		options := e.solveOptions()
		options.Exports = []client.ExportEntry{export}
		_, err := c.Build(ctx, options, "nodesmith", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
			return solveAll(ctx, c, definitions)
		}, events)
		if u.failed() { // which is no failure of the engine's
			return nil
		}
		return err
	})
	failure := e.options.uses.end(u) // a solve that is cancelled does not wait for its export
	switch {
	case err != nil:
		return err
	case failure != nil && ctx.Err() != nil:
		return interruption(ctx, title)
	}
	return failure
}

// solveAll solves graphs into one result, each under its number.
func solveAll(ctx context.Context, c gateway.Client, definitions []*pb.Definition) (*gateway.Result, error) {
	imports, err := importsOf(c.BuildOpts().Opts)
	if err != nil {
		return nil, err
	}
	refs := make([]gateway.Reference, len(definitions))
	group, solving := errgroup.WithContext(ctx)
	for i, definition := range definitions {
		group.Go(func() error {
			result, err := c.Solve(solving, gateway.SolveRequest{Definition: definition, Evaluate: true, CacheImports: imports})
			if err != nil {
				return err
			}
			refs[i], err = result.SingleRef()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := gateway.NewResult()
	var keys exptypes.Platforms // BuildKit knows several results as those of platforms
	for i, ref := range refs {
		key := strconv.Itoa(i)
		all.AddRef(key, ref)
		keys.Platforms = append(keys.Platforms, exptypes.Platform{ID: key, Platform: platform})
	}
	data, err := json.Marshal(keys)
	all.AddMeta(exptypes.ExporterPlatformsKey, data)
	return all, err
}

// mountExporter is the name of the exporter that only the embedded engine has: it
// mounts results and lets this process use them. useAttribute says which use, and
// usingResults is the name under which events tell of it.
const (
	mountExporter = "nodesmith-mount"
	useAttribute  = "use"
	usingResults  = "using results"
)

// uses are the uses of results that solves of this process were asked for.
type uses struct {
	mu   sync.Mutex
	last int
	byID map[string]*use
}

// use is one of them. It is called once at most.
type use struct {
	id    string
	call  func(dirs []string) error
	begun bool          // by uses.mu
	done  chan struct{} // closed when call has returned, with err
	err   error
}

func (u *uses) add(call func(dirs []string) error) *use {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = map[string]*use{}
	}
	u.last++
	added := &use{id: strconv.Itoa(u.last), call: call, done: make(chan struct{})}
	u.byID[added.id] = added
	return added
}

// run calls a use, unless it was called or has ended.
func (u *uses) run(id string, dirs []string) error {
	u.mu.Lock()
	use, wanted := u.byID[id]
	if wanted = wanted && !use.begun; wanted {
		use.begun = true
	}
	u.mu.Unlock()
	if !wanted {
		return fmt.Errorf("nobody uses the results any more (%s)", id)
	}
	defer close(use.done)
	use.err = use.call(dirs)
	return use.err
}

// failed says whether the use was called and returned an error.
func (u *use) failed() bool {
	select {
	case <-u.done:
		return u.err != nil
	default:
		return false
	}
}

// end keeps a use from being called, or waits until it returns, and says with what.
func (u *uses) end(ended *use) error {
	u.mu.Lock()
	delete(u.byID, ended.id)
	begun := ended.begun
	u.mu.Unlock()
	if !begun {
		return nil
	}
	<-ended.done
	return ended.err
}
