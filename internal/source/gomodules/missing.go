package gomodules

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/lock"
)

// sizeJobs is how many sizes a proxy is asked for at once: its answers are short.
const sizeJobs = 4 * jobs

// Missing lists the files that Fetch would download, by their names on a proxy.
// A lock does not hold their sizes: the proxy is asked, and what it does not say
// stays unknown.
func Missing(ctx context.Context, cfg Config, k lock.Kubernetes) ([]bundle.Download, error) {
	client, err := goproxy.New(cfg.Proxy)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, b := range foldersOf(k) {
		if _, err := os.Stat(filepath.Join(cfg.bundles(), b.dirName())); err == nil {
			continue
		}
		sums, err := parseSums(b.sums)
		if err != nil {
			return nil, fault.New(fault.BadSpec, "lock again", "the lock's goSum of %s: %w", b.name, err)
		}
		for line := range sums {
			name, err := goproxy.Escape(fileOf(line))
			if err != nil {
				return nil, err
			}
			if !client.Holds(name) {
				names[name] = true
			}
		}
	}
	cfg.logf("asking the Go proxy for the sizes of %d files", len(names))
	missing := make([]bundle.Download, 0, len(names))
	for name := range names {
		missing = append(missing, bundle.Download{Name: name})
	}
	slices.SortFunc(missing, func(a, b bundle.Download) int { return cmp.Compare(a.Name, b.Name) })
	var group errgroup.Group
	group.SetLimit(sizeJobs)
	for i := range missing {
		group.Go(func() error {
			missing[i].SizeBytes = client.Size(ctx, missing[i].Name)
			return ctx.Err()
		})
	}
	return missing, group.Wait()
}
