package housekeeping

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/util/disk"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lru"
)

const (
	// interval is how often the end of a build brings everything within its bounds,
	// and scarce how few free bytes make it do so each time.
	interval = time.Hour
	scarce   = 10 << 30
)

// Tidy is Run for the end of a build: it does so once an interval, or where space
// is scarce, and else costs two system calls. It is no error of the build that it
// fails: log is told.
func Tidy(ctx context.Context, settings host.Settings, log func(format string, args ...any)) {
	if ctx.Err() != nil || !due(settings) {
		return
	}
	r, err := Run(ctx, Options{Settings: settings, Log: log})
	if err != nil {
		if ctx.Err() == nil {
			log("bounding the caches: %v", err)
		}
		return
	}
	stamp := stampFile(settings.CacheDir)
	if f, err := os.OpenFile(stamp, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		_ = f.Close() // empty
		lru.Touch(stamp)
	}
	if freed := r.Freed(); freed > 0 {
		log("the caches were larger than their bounds: %d MiB were freed (nodesmith prune --list)", freed>>20)
	}
}

// stampFile was changed when the caches were last within their bounds.
func stampFile(cacheDir string) string { return filepath.Join(cacheDir, "tidied") }

func due(settings host.Settings) bool {
	info, err := os.Stat(stampFile(settings.CacheDir))
	if err != nil || settings.Now.Sub(info.ModTime()) > interval {
		return true
	}
	free, err := freeBytes(settings.CacheDir)
	return err == nil && free < scarce
}

// freeBytes is how much a user may still write.
func freeBytes(dir string) (int64, error) {
	stat, err := disk.GetDiskStat(dir)
	return stat.Available, err
}
