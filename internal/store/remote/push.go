package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/store"
)

// Push copies an image of the store to a registry, under its name and those tags.
func Push(ctx context.Context, s *store.Store, image store.Image, tags []string, o Options) (_ Summary, err error) {
	c, err := connect(ctx, image.Name, o)
	if err != nil {
		return Summary{}, err
	}
	session, err := s.Begin(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	tree, err := session.Tree(image)
	if err != nil {
		return Summary{}, err
	}
	// What an image there names is there: asking for each chunk would take longer
	// than to send the few that are new.
	there := c.named(ctx, tags)
	p := &push{client: c, session: session, tree: tree, there: there}
	err = p.run(ctx, tags)
	if len(there) > 0 && missing(err) {
		p = &push{client: c, session: session, tree: tree} // something was removed there
		err = p.run(ctx, tags)
	}
	if err != nil {
		return Summary{}, c.failed(image.Reference(), err)
	}
	return p.summary, nil
}

// missing reports whether a registry refused a manifest because it lacks blobs.
func missing(err error) bool {
	answer, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return false
	}
	for _, d := range answer.Errors {
		if d.Code == transport.ManifestBlobUnknownErrorCode || d.Code == transport.BlobUnknownErrorCode {
			return true
		}
	}
	return answer.StatusCode == http.StatusNotFound
}

// push is one try.
type push struct {
	*client
	session *store.Session
	tree    store.Tree
	there   map[digest.Digest]bool

	mu      sync.Mutex
	summary Summary
}

func (p *push) run(ctx context.Context, tags []string) error {
	if err := p.blobs(ctx); err != nil {
		return err
	}
	for _, m := range append(p.tree.Manifests, p.tree.Reports...) {
		if err := p.manifest(ctx, m, p.repository.Digest(m.Digest.String())); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := p.manifest(ctx, p.tree.Index, p.repository.Tag(tag)); err != nil {
			return err
		}
	}
	return nil
}

// blobs sends what the registry lacks.
func (p *push) blobs(ctx context.Context) error {
	parallel, ctx := errgroup.WithContext(ctx)
	parallel.SetLimit(p.jobs)
	for _, b := range p.tree.Blobs {
		if p.there[b.Digest] {
			p.count(&p.summary.There, b)
			continue
		}
		parallel.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			layer := &layer{descriptor: b, session: p.session}
			if err := p.pusher.Upload(ctx, p.repository, layer); err != nil {
				return err
			}
			if layer.opened {
				p.count(&p.summary.Sent, b)
			} else {
				p.count(&p.summary.There, b)
			}
			return nil
		})
	}
	return parallel.Wait()
}

func (p *push) count(usage *store.Usage, b ocispecs.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	usage.Blobs, usage.Bytes = usage.Blobs+1, usage.Bytes+b.Size
}

// manifest sends a manifest, unless the registry has it under that reference.
func (p *push) manifest(ctx context.Context, m ocispecs.Descriptor, reference name.Reference) error {
	data, err := p.session.Read(m)
	if err != nil {
		return err
	}
	return p.pusher.Push(ctx, reference, manifest{data, types.MediaType(m.MediaType)})
}

// manifest is one for a pusher.
type manifest struct {
	data      []byte
	mediaType types.MediaType
}

func (m manifest) RawManifest() ([]byte, error)        { return m.data, nil }
func (m manifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// layer is a blob for a pusher. It is opened when it is sent.
type layer struct {
	descriptor ocispecs.Descriptor
	session    *store.Session
	opened     bool
}

func (l *layer) Digest() (v1.Hash, error) { return v1.NewHash(l.descriptor.Digest.String()) }
func (l *layer) Size() (int64, error)     { return l.descriptor.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.descriptor.MediaType), nil
}

func (l *layer) Compressed() (io.ReadCloser, error) {
	l.opened = true
	return l.session.Open(l.descriptor)
}

// The rest of v1.Layer: as it is sent is the only form that a registry has.
func (l *layer) DiffID() (v1.Hash, error)             { return l.Digest() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
