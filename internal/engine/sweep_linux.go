package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// removeIngests removes blobs that were being copied into the engine's content
// store when it was killed, or its file system full. BuildKit would go on where
// they end, which inputs of a client do not let it ("unsupported offset"), at
// every build.
func removeIngests(worker string) {
	ingest := filepath.Join(worker, "content", "ingest")
	entries, err := os.ReadDir(ingest)
	if err != nil {
		return // never used
	}
	for _, entry := range entries {
		_ = os.RemoveAll(filepath.Join(ingest, entry.Name()))
	}
}

// sweep ends and unmounts what a killed predecessor left: containers that
// still run, the mounts of their root file systems and of results. Call it only
// while holding the lock on root. What can't be removed is no error here: the
// step that meets it will say so.
func sweep(ctx context.Context, root string) {
	workers, _ := filepath.Glob(filepath.Join(root, workerPattern)) // no bad pattern
	for _, worker := range workers {
		sweepWorker(ctx, worker)
	}
}

// workerPattern is what BuildKit calls the folder of a worker: by its snapshotter.
const workerPattern = "runc-*"

func sweepWorker(ctx context.Context, worker string) {
	removeIngests(worker)
	unmountResults(filepath.Join(worker, "snapshots"))
	executor := filepath.Join(worker, "executor")
	entries, err := os.ReadDir(executor)
	if err != nil {
		return // never used
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		dir := filepath.Join(executor, entry.Name())
		if _, err := os.Lstat(filepath.Join(dir, "config.json")); err != nil {
			continue // not a container's
		}
		_ = exec.CommandContext(ctx, "runc", "delete", "--force", entry.Name()).Run()
		_ = unix.Unmount(filepath.Join(dir, "rootfs"), unix.MNT_DETACH)
		_ = os.RemoveAll(dir)
	}
}

// unmountResults unmounts snapshots that were being read outside of containers,
// and removes the folders that BuildKit made for that.
func unmountResults(snapshots string) {
	snapshots, err := filepath.EvalSymlinks(snapshots)
	if err != nil {
		return // never used
	}
	home, err := mountinfo.GetMounts(mountinfo.ParentsFilter(snapshots))
	if err != nil || len(home) == 0 {
		return
	}
	// A bind mount's root is named as the file system that it lies on names it.
	on := slices.MaxFunc(home, func(a, b *mountinfo.Info) int { return cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)) })
	inside, err := filepath.Rel(on.Mountpoint, snapshots)
	if err != nil {
		return
	}
	inside = filepath.Join(on.Root, inside) + "/"
	left, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		bound := m.Major == on.Major && m.Minor == on.Minor && strings.HasPrefix(m.Root, inside)
		overlaid := m.FSType == "overlay" && strings.Contains(m.VFSOptions, "dir="+snapshots+"/")
		return !bound && !overlaid, false
	})
	if err != nil {
		return
	}
	for _, m := range left {
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
		if strings.HasPrefix(filepath.Base(m.Mountpoint), "buildkit-mount") {
			_ = os.Remove(m.Mountpoint)
		}
	}
}

// removeUnrecorded removes the folders of snapshots that the snapshotter's database does
// not know. Its number and its folder's name come before its record is written, so that
// a kill between them leaves a folder in the way of the next snapshot, which has the same
// number.
func removeUnrecorded(ctx context.Context, root string) (err error) {
	folder := filepath.Join(root, "snapshots")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 {
		return nil // never used
	}
	if err != nil {
		return err
	}
	store, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	ctx, transaction, err := store.TransactionContext(ctx, false)
	if err != nil {
		return err
	}
	recorded, err := storage.IDMap(ctx)
	if err := errors.Join(err, transaction.Rollback()); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	for _, e := range entries {
		if _, known := recorded[e.Name()]; !known {
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
