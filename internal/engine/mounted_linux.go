package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/worker"
)

// mountingWorker is a worker with one exporter more.
type mountingWorker struct{ worker.Worker }

func (w *mountingWorker) Exporter(name string, sessions *session.Manager) (exporter.Exporter, error) {
	if name == mountExporter {
		return mounting{}, nil
	}
	return w.Worker.Exporter(name, sessions)
}

type mounting struct{}

func (mounting) Resolve(_ context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	return &mountingInstance{id, attrs}, nil
}

type mountingInstance struct {
	id    int
	attrs map[string]string
}

func (i *mountingInstance) ID() int                  { return i.id }
func (i *mountingInstance) Name() string             { return usingResults }
func (i *mountingInstance) Type() string             { return mountExporter }
func (i *mountingInstance) Attrs() map[string]string { return i.attrs }
func (i *mountingInstance) Config() *exporter.Config { return exporter.NewConfig() }

// Export hands out what to mount, and holds it until the other side hangs up.
func (i *mountingInstance) Export(ctx context.Context, source *exporter.Source, info exporter.ExportBuildInfo) (
	_ map[string]string, _ exporter.FinalizeFunc, _ exporter.DescriptorReference, err error) {
	results := make([][]mount.Mount, len(source.Refs))
	for n := range results {
		mounts, release, failure := held(ctx, source.Refs[strconv.Itoa(n)], info.SessionID)
		if failure != nil {
			return nil, nil, nil, fmt.Errorf("result %d of the graphs: %w", n, failure)
		}
		defer func() { err = errors.Join(err, release()) }()
		results[n] = mounts
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", i.attrs[socketAttribute])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("nobody uses the results: %w", err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(results); err != nil {
		return nil, nil, nil, fmt.Errorf("hand out results: %w", err)
	}
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, _ = conn.Read(make([]byte, 1)) // nothing comes but the end
	}()
	select {
	case <-hungUp:
		return nil, nil, nil, nil
	case <-ctx.Done():
		return nil, nil, nil, context.Cause(ctx)
	}
}

// held returns the mounts of a result, which stays until it is released.
func held(ctx context.Context, ref cache.ImmutableRef, sessionID string) ([]mount.Mount, func() error, error) {
	if ref == nil {
		return nil, nil, errors.New("it is empty")
	}
	mountable, err := ref.Mount(ctx, true, session.NewGroup(sessionID))
	if err != nil {
		return nil, nil, err
	}
	return mountable.Mount()
}

// mounted mounts a result to be read.
func mounted(mounts []mount.Mount) (dir string, unmount func() error, err error) {
	mounter := snapshot.LocalMounterWithMounts(mounts)
	if dir, err = mounter.Mount(); err != nil {
		return "", nil, err
	}
	return dir, mounter.Unmount, nil
}
