package engine

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/util/archutil"
)

// Folders below the engine's state for what BuildKit and containerd would put among
// other programs' temporary files, where it would stay when the process is killed.
const (
	// probesFolder has programs for other architectures, by which BuildKit sees what
	// this kernel runs.
	probesFolder = "probes"
	// mountsFolder has containerd's mount points, each a folder for a moment.
	mountsFolder = "mounts"
)

// keepTemporary makes both use their folders below root.
func keepTemporary(root string) error {
	if err := mount.SetTempMountLocation(filepath.Join(root, mountsFolder)); err != nil {
		return fmt.Errorf("a folder for mount points: %w", err)
	}
	if err := probePlatforms(filepath.Join(root, probesFolder)); err != nil {
		return fmt.Errorf("asking the kernel for its architectures: %w", err)
	}
	return nil
}

// probePlatforms lets BuildKit ask the kernel now and never again. It would do so
// before the first step, in os.TempDir.
func probePlatforms(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Whoever makes a temporary file in these milliseconds has it there, too, and
	// removes it from there.
	const variable = "TMPDIR"
	before, had := os.LookupEnv(variable)
	if err := os.Setenv(variable, dir); err != nil {
		return err
	}
	archutil.CacheMaxAge = -1
	archutil.SupportedPlatforms(false)
	if had {
		return os.Setenv(variable, before)
	}
	return os.Unsetenv(variable)
}

// sweepTemporary removes what a killed process left in them. Of the mount points it
// takes those on which nothing is mounted any longer, for a mounted one holds
// someone's files.
func sweepTemporary(root string) {
	_ = os.RemoveAll(filepath.Join(root, probesFolder))
	entries, _ := os.ReadDir(filepath.Join(root, mountsFolder)) // none if it was never used
	for _, e := range entries {
		_ = os.Remove(filepath.Join(root, mountsFolder, e.Name()))
	}
}
