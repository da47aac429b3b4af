package housekeeping

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"nodesmith.dev/nodesmith/internal/fault"
)

// retry is how often a lock that another process holds is asked for, and
// noticeAfter how long that goes on without a word.
const (
	retry       = 20 * time.Millisecond
	noticeAfter = 2 * time.Second
)

// Lease keeps everything in a cache directory from being removed.
type Lease struct{ lock *flock.Flock }

func leaseFile(cacheDir string) *flock.Flock {
	return flock.New(filepath.Join(cacheDir, "use.lock"), flock.SetPermissions(0o644))
}

// Use begins a lease, which any number of processes may have; it waits while
// another process removes something, and tells log if that takes a while. Who reads
// or writes downloads, Go modules, inputs or pulled images has one meanwhile. The
// kernel ends it with the process, however that ends.
func Use(ctx context.Context, cacheDir string, log func(format string, args ...any)) (*Lease, error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, fault.NoSpaceOr(fmt.Errorf("cache directory: %w", err))
	}
	notice := time.AfterFunc(noticeAfter, func() { log("waiting for another nodesmith that prunes %s", cacheDir) })
	defer notice.Stop()
	lock := leaseFile(cacheDir)
	if _, err := lock.TryRLockContext(ctx, retry); err != nil {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Interrupted, "", "waiting for the cache directory %s: %w", cacheDir, context.Cause(ctx))
		}
		return nil, fault.NoSpaceOr(fmt.Errorf("cache directory %s: lock: %w", cacheDir, err))
	}
	return &Lease{lock}, nil
}

// Close ends the lease.
func (l *Lease) Close() error { return l.lock.Close() }

// alone is a lease that nobody else has one beside; false if somebody has.
func alone(cacheDir string) (*Lease, bool, error) {
	lock := leaseFile(cacheDir)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("cache directory %s: lock: %w", cacheDir, err), lock.Close())
	}
	if !ok {
		return nil, false, lock.Close()
	}
	return &Lease{lock}, true, nil
}
