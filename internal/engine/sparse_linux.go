package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/worker/base"
	"golang.org/x/sys/unix"
)

type sparseWorker struct{ *base.Worker }

func (w *sparseWorker) Exporter(name string, sessions *session.Manager) (exporter.Exporter, error) {
	if name == sparseExporter {
		return sparse{}, nil
	}
	return w.Worker.Exporter(name, sessions)
}

type sparse struct{}

func (sparse) Resolve(_ context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	return &sparseInstance{id, attrs}, nil
}

type sparseInstance struct {
	id    int
	attrs map[string]string
}

func (i *sparseInstance) ID() int                  { return i.id }
func (i *sparseInstance) Name() string             { return "writing files" }
func (i *sparseInstance) Type() string             { return sparseExporter }
func (i *sparseInstance) Attrs() map[string]string { return i.attrs }
func (i *sparseInstance) Config() *exporter.Config { return exporter.NewConfig() }

// Export puts the result's top-level files into attrs[destAttribute]: copies, or
// links where they are lent.
func (i *sparseInstance) Export(ctx context.Context, source *exporter.Source, info exporter.ExportBuildInfo) (
	_ map[string]string, _ exporter.FinalizeFunc, _ exporter.DescriptorReference, err error) {
	if source.Ref == nil {
		return nil, nil, nil, errors.New("the graph's result is empty")
	}
	mountable, err := source.Ref.Mount(ctx, true, session.NewGroup(info.SessionID))
	if err != nil {
		return nil, nil, nil, err
	}
	mounts, release, err := mountable.Mount()
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	mounter := snapshot.LocalMounterWithMounts(mounts)
	dir, err := mounter.Mount()
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { err = errors.Join(err, mounter.Unmount()) }()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		to := filepath.Join(i.attrs[destAttribute], entry.Name())
		// What an engine left that went away meanwhile: it might have been lent.
		if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, nil, err
		}
		if i.attrs[lendAttribute] != "" && linked(mounts, entry.Name(), to) {
			continue
		}
		if err := copySparse(ctx, to, filepath.Join(dir, entry.Name())); err != nil {
			return nil, nil, nil, fmt.Errorf("writing %s: %w", entry.Name(), err)
		}
	}
	return nil, nil, nil, nil
}

// linked links a file of a snapshot's folder, not by way of its mount: no link leads
// from one mount to another. It is false where that folder is not known, or lies on
// another file system.
func linked(mounts []mount.Mount, name, to string) bool {
	return len(mounts) == 1 && mounts[0].Type == "bind" && os.Link(filepath.Join(mounts[0].Source, name), to) == nil
}

// chunk is how much is copied between two looks at ctx (bytes).
const chunk = 64 << 20

// copySparse copies a file's data and leaves its holes, whole megabytes at a
// time inside the kernel.
func copySparse(ctx context.Context, dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for offset := int64(0); ; {
		data, err := unix.Seek(int(in.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data behind offset
			return out.Sync() // it is about to get a name that stays
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for offset = data; offset < hole; {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := copyRange(out, in, offset, min(chunk, hole-offset)); err != nil {
				return err
			}
			offset += min(chunk, hole-offset)
		}
	}
}

// copyRange copies length bytes at offset from in to the same place in out.
func copyRange(out, in *os.File, offset, length int64) error {
	for _, f := range []*os.File{in, out} {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	}
	// Between two files io.CopyN uses copy_file_range(2).
	_, err := io.CopyN(out, in, length)
	return err
}
