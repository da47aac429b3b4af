package bundle

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
)

// PlaceholderPrefix begins the identifier of what stands in a graph for a bundle
// that has not been fetched (Plan).
const PlaceholderPrefix = "oci-layout://" + host + "/missing@"

// Download is something that a build fetches.
type Download struct {
	// Input is the name of the bundle that it is for.
	Input string
	// Name says what it is: its address, or what it is locked by.
	Name string
	// SizeBytes is its size; -1 if nobody could say.
	SizeBytes int64
}

// Plan hands out the bundles of a store for graphs that are looked at and not
// run: it fetches nothing. It is safe for concurrent use.
type Plan struct {
	store *Store

	mu        sync.Mutex
	downloads []Download
	seen      map[string]bool // keys
	missing   []string        // names of steps that read placeholders
	listed    map[string]bool // names of downloads
}

// Plan returns a plan over the store.
func (s *Store) Plan() *Plan {
	return &Plan{store: s, seen: map[string]bool{}, listed: map[string]bool{}}
}

// Content is Store.Content: what is read here and now is no download.
func (p *Plan) Content(ctx context.Context, name string, files ...File) (llb.State, error) {
	return p.store.Content(ctx, name, files...)
}

// Lazy is Store.Lazy, but that a placeholder stands for what the store has not
// seen.
func (p *Plan) Lazy(ctx context.Context, name string, source Source) (llb.State, error) {
	if manifest, size, err := p.store.recorded(ctx, p.store.record(source.Key)); err == nil {
		return p.store.use(name, manifest, size), nil
	}
	p.mu.Lock()
	seen := p.seen[source.Key]
	if !seen {
		p.seen[source.Key], p.missing = true, append(p.missing, Prefix+name)
	}
	p.mu.Unlock()
	if !seen && source.Missing != nil {
		missing, err := source.Missing(ctx)
		if err != nil {
			return llb.State{}, err
		}
		p.mu.Lock()
		for _, d := range missing {
			if d.Input = name; !p.listed[d.Name] { // several bundles hold it
				p.listed[d.Name] = true
				p.downloads = append(p.downloads, d)
			}
		}
		p.mu.Unlock()
	}
	return state("missing", name, digest.FromString(source.Key)), nil
}

// Missing returns the names of the inputs that placeholders stand for.
func (p *Plan) Missing() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.missing)
}

// Downloads returns what the bundles lack that were asked for.
func (p *Plan) Downloads() []Download {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.downloads)
}
