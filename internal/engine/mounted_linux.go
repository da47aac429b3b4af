package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/worker/base"
)

// mountingWorker is BuildKit's worker with one exporter more.
type mountingWorker struct {
	*base.Worker
	uses *uses
}

func (w *mountingWorker) Exporter(name string, sessions *session.Manager) (exporter.Exporter, error) {
	if name == mountExporter {
		return mounting{w.uses}, nil
	}
	return w.Worker.Exporter(name, sessions)
}

type mounting struct{ uses *uses }

func (m mounting) Resolve(_ context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	return &mountingInstance{m.uses, id, attrs}, nil
}

type mountingInstance struct {
	uses  *uses
	id    int
	attrs map[string]string
}

func (i *mountingInstance) ID() int                  { return i.id }
func (i *mountingInstance) Name() string             { return usingResults }
func (i *mountingInstance) Type() string             { return mountExporter }
func (i *mountingInstance) Attrs() map[string]string { return i.attrs }
func (i *mountingInstance) Config() *exporter.Config { return exporter.NewConfig() }

// Export mounts the results and has them used.
func (i *mountingInstance) Export(ctx context.Context, source *exporter.Source, info exporter.ExportBuildInfo) (
	_ map[string]string, _ exporter.FinalizeFunc, _ exporter.DescriptorReference, err error) {
	dirs := make([]string, len(source.Refs))
	for n := range dirs {
		dir, unmount, failure := mounted(ctx, source.Refs[strconv.Itoa(n)], info.SessionID)
		if failure != nil {
			return nil, nil, nil, fmt.Errorf("mount result %d of the graphs: %w", n, failure)
		}
		defer func() { err = errors.Join(err, unmount()) }()
		dirs[n] = dir
	}
	return nil, nil, nil, i.uses.run(i.attrs[useAttribute], dirs)
}

// mounted mounts a result to be read.
func mounted(ctx context.Context, ref cache.ImmutableRef, sessionID string) (dir string, unmount func() error, err error) {
	if ref == nil {
		return "", nil, errors.New("it is empty")
	}
	mountable, err := ref.Mount(ctx, true, session.NewGroup(sessionID))
	if err != nil {
		return "", nil, err
	}
	mounts, release, err := mountable.Mount()
	if err != nil {
		return "", nil, err
	}
	mounter := snapshot.LocalMounterWithMounts(mounts)
	if dir, err = mounter.Mount(); err != nil {
		return "", nil, errors.Join(err, release())
	}
	return dir, func() error { return errors.Join(mounter.Unmount(), release()) }, nil
}
