package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

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
// still run, and the overlay mounts of their root file systems. Call it only
// while holding the lock on root. What can't be removed is no error here: the
// step that meets it will say so.
func sweep(ctx context.Context, root string) {
	worker := filepath.Join(root, "runc-"+snapshotterName(root))
	removeIngests(worker)
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
