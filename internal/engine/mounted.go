package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/scratch"
)

// mountExporter is the name of the exporter that only the embedded engine has: it
// hands a process on this machine what to mount to read results, over the socket that
// socketAttribute names, and keeps them until that process hangs up. usingResults is the
// name under which events tell of it.
const (
	mountExporter   = "nodesmith-mounts"
	socketAttribute = "socket"
	usingResults    = "using results"
)

// Mounted solves the graphs, and gives use a directory for each, where its result can
// be read until use returns. Nothing is copied. The engine may not be Remote. use is
// called again if the process that ran the engine goes away meanwhile and it failed. What
// it returns is returned as it is.
func (e *Engine) Mounted(ctx context.Context, title string, states []llb.State, use func(dirs []string) error) error {
	definitions := make([]*pb.Definition, len(states))
	for i, state := range states {
		definition, err := definitionOf(ctx, title, state)
		if err != nil {
			return err
		}
		definitions[i] = definition.ToPB()
	}
	var failure error // of use, which is none of the engine
	err := e.watched(ctx, title, func(ctx context.Context, c *client.Client, events chan *client.SolveStatus) error {
		hearing, err := hear(ctx, use)
		if err != nil {
			close(events) // as a solve does
			return err
		}
		err = e.build(ctx, c, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
			return solveAll(ctx, c, definitions)
		}, events, client.ExportEntry{Type: mountExporter, Attrs: map[string]string{socketAttribute: hearing.path}})
		used, useErr := hearing.end() // a solve that is cancelled does not wait for its export
		if used && useErr == nil || err == nil {
			failure = useErr
			return nil
		}
		return err
	})
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
	refs := make([]gateway.Reference, len(definitions))
	group, solving := errgroup.WithContext(ctx)
	for i, definition := range definitions {
		group.Go(func() (err error) {
			_, refs[i], err = solved(solving, c, definition)
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

// hearing waits on a socket for what the exporter hands out.
type hearing struct {
	path     string
	listener net.Listener
	done     chan struct{} // closed after all else
	used     bool
	err      error
}

// hear begins to wait for one call of the exporter, and uses what it hands out.
func hear(ctx context.Context, use func(dirs []string) error) (*hearing, error) {
	folder, err := scratch.New("", scratch.Prefix+"mounts-") // which only this user may enter
	if err != nil {
		return nil, err
	}
	h := &hearing{path: filepath.Join(folder.Path(), "mounts.sock"), done: make(chan struct{})}
	if h.listener, err = (&net.ListenConfig{}).Listen(ctx, "unix", h.path); err != nil {
		return nil, errors.Join(fmt.Errorf("a socket for the engine's results: %w", err), folder.Close())
	}
	go func() {
		defer close(h.done)
		defer func() { _ = folder.Close() }() // what is left goes with the next one
		conn, err := h.listener.Accept()
		if err != nil {
			return // nothing is handed out any more
		}
		h.used = true
		h.err = errors.Join(useMounts(conn, use), conn.Close())
	}()
	return h, nil
}

// end lets no further call in, waits until a use that has begun returns, and says with
// what.
func (h *hearing) end() (used bool, err error) {
	_ = h.listener.Close()
	<-h.done
	return h.used, h.err
}

// useMounts mounts what is read from a connection, each result's mounts as JSON.
func useMounts(conn net.Conn, use func(dirs []string) error) (err error) {
	var results [][]mount.Mount
	if err := json.NewDecoder(conn).Decode(&results); err != nil {
		return fmt.Errorf("what to mount of the engine's results: %w", err)
	}
	dirs := make([]string, len(results))
	for i, mounts := range results {
		dir, unmount, failure := mounted(mounts)
		if failure != nil {
			return fmt.Errorf("mount result %d of the graphs: %w", i, failure)
		}
		defer func() { err = errors.Join(err, unmount()) }()
		dirs[i] = dir
	}
	return use(dirs)
}
