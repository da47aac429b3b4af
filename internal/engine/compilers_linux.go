package engine

import (
	"context"
	"slices"

	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"golang.org/x/sync/semaphore"
)

// compilingWorker is BuildKit's worker with places of their own for compilers, which
// take minutes: what takes seconds does not wait for one to end, be it another
// process's.
type compilingWorker struct {
	*base.Worker
	places *semaphore.Weighted
}

func (w *compilingWorker) ResolveOp(v solver.Vertex, bridge frontend.FrontendLLBBridge, sessions *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	op, err := w.Worker.ResolveOp(v, bridge, sessions, proxy)
	if err != nil {
		return nil, err
	}
	if exec, ok := op.(*ops.ExecOp); ok && keepsCache(v) {
		return &compiler{exec, w.places}, nil
	}
	return op, nil
}

// keepsCache says whether a step has a cache that outlives it, as compilers do.
func keepsCache(v solver.Vertex) bool {
	op, ok := v.Sys().(*pb.Op)
	return ok && slices.ContainsFunc(op.GetExec().GetMounts(), func(m *pb.Mount) bool { return m.GetMountType() == pb.MountType_CACHE })
}

// compiler is a step that takes one of the compilers' places.
type compiler struct {
	*ops.ExecOp
	places *semaphore.Weighted
}

func (c *compiler) Acquire(ctx context.Context) (solver.ReleaseFunc, error) {
	if err := c.places.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { c.places.Release(1) }, nil
}
