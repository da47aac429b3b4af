package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/store"
)

// named returns the blobs that the images with those tags or Latest name in the
// registry; none where there is no such image.
func (c *client) named(ctx context.Context, tags []string) map[digest.Digest]bool {
	there := map[digest.Digest]bool{}
	for _, tag := range append([]string{store.Latest}, tags...) {
		var index ocispecs.Index
		if err := c.read(ctx, c.repository.Tag(tag), &index); err != nil {
			continue // blobs are asked for one by one then
		}
		for _, m := range index.Manifests {
			var manifest ocispecs.Manifest
			if m.ArtifactType != store.DiskType || there[m.Digest] {
				continue
			}
			if err := c.read(ctx, c.repository.Digest(m.Digest.String()), &manifest); err != nil {
				continue
			}
			there[m.Digest] = true
			for _, layer := range manifest.Layers {
				there[layer.Digest] = true
			}
		}
	}
	return there
}

// read reads a manifest of the registry.
func (c *client) read(ctx context.Context, reference name.Reference, v any) error {
	found, err := c.puller.Get(ctx, reference)
	if err != nil {
		return err
	}
	return json.Unmarshal(found.Manifest, v)
}

// Pull copies an image of a registry into the store, where it gets the tag that
// it was asked for by, or that it was built with, and Latest.
func Pull(ctx context.Context, s *store.Store, r store.Reference, now time.Time, o Options) (_ store.Image, _ Summary, err error) {
	c, err := connect(ctx, r.Name, o)
	if err != nil {
		return store.Image{}, Summary{}, err
	}
	session, err := s.Begin(ctx)
	if err != nil {
		return store.Image{}, Summary{}, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	p := &pull{client: c, session: session}
	image, err := p.run(ctx, r, now)
	if errors.Is(err, store.ErrForeign) || errors.Is(err, format.ErrCorrupt) {
		err = fault.New(fault.Unverifiable, "", "%s of %s: %w", r, c.repository, err)
	}
	if err != nil {
		return store.Image{}, Summary{}, c.failed(r.String(), err)
	}
	return image, p.summary, nil
}

type pull struct {
	*client
	session *store.Session

	mu      sync.Mutex
	summary Summary
}

func (p *pull) run(ctx context.Context, r store.Reference, now time.Time) (store.Image, error) {
	reference, tag, err := p.reference(r)
	if err != nil {
		return store.Image{}, err
	}
	index, err := p.manifest(ctx, reference, ocispecs.Descriptor{})
	if err != nil {
		return store.Image{}, err
	}
	if index.MediaType != ocispecs.MediaTypeImageIndex {
		return store.Image{}, fmt.Errorf("%s: %w", index.MediaType, store.ErrForeign)
	}
	members, err := p.session.Members(index)
	if err != nil {
		return store.Image{}, err
	}
	if err := p.contents(ctx, members); err != nil {
		return store.Image{}, err
	}
	for _, m := range members {
		if m.ArtifactType != store.DiskType {
			continue
		}
		if err := p.reports(ctx, m); err != nil {
			return store.Image{}, err
		}
	}
	return p.session.Adopt(ctx, r.Name, tag, index, now)
}

// reference is what the registry calls the image, and the tag that it gets here;
// "" for the one that it was built with.
func (p *pull) reference(r store.Reference) (name.Reference, string, error) {
	switch {
	case r.Digest == "" && r.Tag == store.Latest:
		return p.repository.Tag(r.Tag), "", nil
	case r.Digest == "":
		return p.repository.Tag(r.Tag), r.Tag, nil
	case digest.Digest(r.Digest).Validate() == nil:
		return p.repository.Digest(r.Digest), "", nil
	}
	return nil, "", fault.New(fault.Usage, "", "%s: a registry knows whole digests alone", r)
}

// contents copies manifests and the blobs that they name.
func (p *pull) contents(ctx context.Context, manifests []ocispecs.Descriptor) error {
	wanted := map[digest.Digest]ocispecs.Descriptor{}
	for _, m := range manifests {
		if _, err := p.manifest(ctx, p.repository.Digest(m.Digest.String()), m); err != nil {
			return err
		}
		blobs, err := p.session.Blobs(m)
		if err != nil {
			return err
		}
		for _, b := range blobs {
			wanted[b.Digest] = b
		}
	}
	parallel, ctx := errgroup.WithContext(ctx)
	parallel.SetLimit(p.jobs)
	for _, b := range wanted {
		if p.session.Has(b) {
			p.count(&p.summary.There, b)
			continue
		}
		parallel.Go(func() error {
			if err := p.blob(ctx, b); err != nil {
				return err
			}
			p.count(&p.summary.Sent, b)
			return nil
		})
	}
	return parallel.Wait()
}

func (p *pull) count(usage *store.Usage, b ocispecs.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	usage.Blobs, usage.Bytes = usage.Blobs+1, usage.Bytes+b.Size
}

// manifest copies a manifest; want says what it has to be, where that is known.
func (p *pull) manifest(ctx context.Context, reference name.Reference, want ocispecs.Descriptor) (ocispecs.Descriptor, error) {
	if want.Digest != "" && p.session.Has(want) {
		return want, nil
	}
	found, err := p.puller.Get(ctx, reference)
	if err != nil {
		return want, err
	}
	if want.Digest == "" {
		want = ocispecs.Descriptor{
			MediaType: string(found.MediaType), Digest: digest.Digest(found.Digest.String()), Size: int64(len(found.Manifest)),
		}
	}
	if err := p.session.Receive(ctx, want, bytes.NewReader(found.Manifest)); err != nil {
		return want, err
	}
	p.count(&p.summary.Sent, want)
	return want, nil
}

// tries is how often a blob is asked for before the pull gives up.
const tries = 4

// blob copies a blob.
func (p *pull) blob(ctx context.Context, b ocispecs.Descriptor) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := p.once(ctx, b)
		if answer, ok := errors.AsType[*transport.Error](err); ok && answer.StatusCode < http.StatusInternalServerError && answer.StatusCode != http.StatusTooManyRequests {
			return struct{}{}, backoff.Permanent(err)
		}
		if fault.KindOf(err) == fault.NoSpace {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 3, MaxInterval: 10 * time.Second}),
		backoff.WithMaxTries(tries))
	return err
}

func (p *pull) once(ctx context.Context, b ocispecs.Descriptor) error {
	layer, err := p.puller.Layer(ctx, p.repository.Digest(b.Digest.String()))
	if err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	return errors.Join(p.session.Receive(ctx, b, content), content.Close())
}

// reports copies the reports on a disk.
func (p *pull) reports(ctx context.Context, disk ocispecs.Descriptor) error {
	index, err := remote.Referrers(p.repository.Digest(disk.Digest.String()), append(p.options, remote.WithContext(ctx))...)
	if err != nil {
		return err
	}
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	var list ocispecs.Index
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("reports on %s: %w", disk.Digest, err)
	}
	var reports []ocispecs.Descriptor
	for _, r := range list.Manifests {
		if store.IsReport(r) && len(reports) < maxReports {
			reports = append(reports, r)
		}
	}
	if err := p.contents(ctx, reports); err != nil {
		return err
	}
	return p.session.Refer(ctx, disk.Digest, reports)
}

// maxReports bounds what a registry can make a pull fetch: there is one for each
// level and set of firmwares.
const maxReports = 64
