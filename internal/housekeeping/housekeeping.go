// Package housekeeping shows and bounds what nodesmith keeps on a machine.
//
// What comes in are the places of a machine's caches, journals and store, and a bound
// for each kind but the last; what goes out is what each takes, and what was freed of it.
// Of caches goes what was not used for longest; of the store only what no image
// has, and images that the user gives a rule for. Nothing goes that a running
// process may need: the caches' folders are touched only while no process has a
// Lease, BuildKit knows what its own builds use, and the store has its sessions.
// What killed processes left goes, too, whatever the bounds. A look costs tens of
// milliseconds: no kind is measured by walking large trees of files each time.
package housekeeping

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lru"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
	"nodesmith.dev/nodesmith/internal/source/registry"
	"nodesmith.dev/nodesmith/internal/store"
)

// Unbounded is the bound of what has none.
const Unbounded = -1

// Kind is one kind of what is kept.
type Kind struct {
	Name, Path string
	// Policy says what goes first.
	Policy string
	// Bytes is what it took before, Freed what of that is free now, or would be.
	Bytes, Freed int64
	// Bound is how many bytes are kept, or Unbounded.
	Bound int64
	// Note says why it was left alone, or could not be measured; "" if it was not.
	Note string
}

// Options say what is looked at, and what may go.
type Options struct {
	Settings host.Settings
	// Keep is how many of each name's images stay in the store, what was stored
	// last first, besides those that somebody gave a tag; 0 for all.
	Keep int
	// Look removes nothing, and tells what would go.
	Look bool
	// Log takes a line when something takes a while; nil for none.
	Log func(format string, args ...any)
}

// Report says what was found and what went.
type Report struct {
	Kinds []Kind
	// Images are those that went by Options.Keep.
	Images []store.Image
}

// compileKind is the part of the engine's cache that compilers keep.
const compileKind = "compile"

// Freed is how many bytes are free now, or would be.
func (r Report) Freed() (bytes int64) {
	for _, k := range r.Kinds {
		if k.Name != compileKind { // the engine's has them
			bytes += k.Freed
		}
	}
	return bytes
}

// folders are the kinds that lie in folders.
var folders = []struct {
	name, policy string
	// shared ones are removed from while other processes use them.
	shared  bool
	entries func(dir string) ([]lru.Entry, error)
	// dir is the folder; nil for that of its name in the cache directory.
	dir func(host.Settings) string
}{
	{"downloads", "packages and indices not used for longest go first", false, fetch.Entries, nil},
	{"go", "modules and toolchains not used for longest go first", false, gomodules.Entries, nil},
	{"images", "pulled container images not used for longest go first", false, registry.Entries, nil},
	{"inputs", "what was given to the engine, not used for longest, goes first", false, bundle.Entries, nil},
	{"blocks", "compressed blocks not used for longest go first", true, blockcache.Entries, nil},
	{"journals", "of images whose publishing is finished, those not used for longest go first", true, publish.Entries, host.Settings.PublishDir},
}

// Run looks at everything and, unless it only looks, brings it within its bounds.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if err := os.MkdirAll(o.Settings.CacheDir, 0o755); err != nil {
		return r, err
	}
	lease, free, err := alone(o.Settings.CacheDir)
	if err != nil {
		return r, err
	}
	if free {
		defer func() { err = errors.Join(err, lease.Close()) }()
	}
	r, err = besidesEngine(ctx, o, free)
	// The engine needs room to start, which the others may have made.
	kinds, failure := engineKinds(ctx, o)
	r.Kinds = append(kinds, r.Kinds...)
	return r, errors.Join(err, failure)
}

// besidesEngine is Run for all but the engine; free says that no build runs.
func besidesEngine(ctx context.Context, o Options, free bool) (r Report, err error) {
	for _, f := range folders {
		k := Kind{
			Name: f.name, Policy: f.policy, Path: filepath.Join(o.Settings.CacheDir, f.name), Bound: int64(*o.Settings.Bounds.Of(f.name)),
		}
		if f.dir != nil {
			k.Path = f.dir(o.Settings)
		}
		if !free && !f.shared {
			k.Note = inUse
		}
		if err := k.trim(ctx, f.entries, o.Look); err != nil {
			return r, err
		}
		r.Kinds = append(r.Kinds, k)
	}
	k, gone, err := storeKind(ctx, o)
	if err != nil {
		return r, err
	}
	r.Kinds, r.Images = append(r.Kinds, k), gone
	return r, nil
}

// inUse is why a folder of the caches is left alone.
const inUse = "a build runs: left until it has ended"

// trim measures a folder and removes what is too much, unless a note says why not.
func (k *Kind) trim(ctx context.Context, list func(string) ([]lru.Entry, error), look bool) error {
	entries, err := list(k.Path)
	if err != nil && k.Note != "" { // what goes away while others use it
		k.Note += "; not measured"
		return nil
	}
	if err != nil {
		return err
	}
	k.Bytes = lru.Total(entries)
	if k.Note != "" {
		return nil
	}
	for _, e := range lru.Excess(entries, k.Bound) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !look {
			if err := e.Remove(); err != nil {
				return err
			}
		}
		k.Freed += e.Bytes
	}
	return nil
}

// storeKind removes what no image has, after the images that the user has a rule
// for.
func storeKind(ctx context.Context, o Options) (Kind, []store.Image, error) {
	k := Kind{
		Name: "store", Path: o.Settings.StoreDir, Bound: Unbounded,
		Policy: "what no image has goes; images only by rm or --keep",
	}
	if _, err := os.Stat(k.Path); errors.Is(err, os.ErrNotExist) {
		return k, nil, nil
	}
	images, err := store.Open(k.Path)
	if err != nil {
		return k, nil, err
	}
	used, err := images.Used(ctx)
	if err != nil {
		return k, nil, err
	}
	k.Bytes = used.Bytes
	var gone []store.Image
	if o.Keep > 0 {
		if gone, err = images.KeepNewest(ctx, o.Keep, o.Look); err != nil {
			return k, nil, err
		}
	}
	if o.Look {
		unused, err := images.Unused(ctx, gone...)
		k.Freed = unused.Bytes
		return k, gone, err
	}
	freed, done, err := images.Collect(ctx)
	if k.Freed = freed.Bytes; !done && err == nil {
		k.Note = "another nodesmith reads or writes images: freed by the next prune"
	}
	return k, gone, err
}
