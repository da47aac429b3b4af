package engine

import (
	"context"

	"github.com/moby/buildkit/client"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Usage is what the engine's cache takes, in bytes.
type Usage struct {
	// Total is everything, Compile what compilers keep from one build to the next,
	// and InUse what builds that run now need.
	Total, Compile, InUse int64
}

// compileCaches matches the caches of compilers.
const compileCaches = "type==" + string(client.UsageRecordTypeCacheMount)

// Usage asks the engine what its cache takes. It knows that without a look at the
// files.
func (e *Engine) Usage(ctx context.Context) (Usage, error) {
	conn, err := e.connection(ctx)
	if err != nil {
		return Usage{}, err
	}
	records, err := conn.client.DiskUsage(ctx)
	if err != nil {
		return Usage{}, fault.New(fault.Engine, "", "what the engine's cache takes: %w", err)
	}
	var u Usage
	for _, r := range records {
		if r.Shared { // with BuildKit's record of builds, which is bounded
			continue
		}
		u.Total += r.Size
		if r.RecordType == client.UsageRecordTypeCacheMount {
			u.Compile += r.Size
		}
		if r.InUse {
			u.InUse += r.Size
		}
	}
	return u, nil
}

// Trim removes from the cache what was used longest ago until it takes at most
// maxBytes; what running builds use stays. It returns the bytes that are free now.
func (e *Engine) Trim(ctx context.Context, maxBytes int64) (freed int64, err error) {
	return e.prune(ctx, client.PruneInfo{All: true, MaxUsedSpace: maxBytes})
}

// DropCompileCaches removes what compilers keep from one build to the next, unless
// a running build uses it.
func (e *Engine) DropCompileCaches(ctx context.Context) (freed int64, err error) {
	return e.prune(ctx, client.PruneInfo{Filter: []string{compileCaches}})
}

func (e *Engine) prune(ctx context.Context, what client.PruneInfo) (freed int64, err error) {
	conn, err := e.connection(ctx)
	if err != nil {
		return 0, err
	}
	removed := make(chan client.UsageInfo)
	var group errgroup.Group
	group.Go(func() error {
		defer close(removed)
		return conn.client.Prune(ctx, removed, option(what))
	})
	for r := range removed {
		freed += r.Size
	}
	if err := group.Wait(); err != nil {
		return freed, fault.New(fault.Engine, "", "making the engine's cache smaller: %w", err)
	}
	return freed, nil
}

// option is a PruneInfo as an option of BuildKit's client.
type option client.PruneInfo

func (o option) SetPruneOption(info *client.PruneInfo) { *info = client.PruneInfo(o) }
