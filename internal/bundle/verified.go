package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
)

// verifiedStore is a content store that reads a blob against its digest before
// it hands it out for the first time. The engine would refuse a damaged one, too,
// but it would do so at every build: here it is removed, and the next build
// writes it anew.
type verifiedStore struct {
	content.Store
	good sync.Map // of digest.Digest
}

// ReaderAt implements content.Provider.
func (s *verifiedStore) ReaderAt(ctx context.Context, blob ocispecs.Descriptor) (content.ReaderAt, error) {
	whole, err := s.whole(ctx, blob.Digest)
	if err != nil {
		return nil, err
	}
	if !whole {
		// Where one is damaged, others may be: the next build shall not end at each.
		return nil, errors.Join(fault.New(fault.Unverifiable, "run the same command again: it is made anew",
			"input %s in the cache was damaged; it is removed: run the same command again", blob.Digest), s.removeDamaged(ctx))
	}
	return s.Store.ReaderAt(ctx, blob)
}

// whole reads a blob against its digest, once in this process. An error says
// that it is not there, or could not be read.
func (s *verifiedStore) whole(ctx context.Context, d digest.Digest) (bool, error) {
	if _, known := s.good.Load(d); known {
		return true, nil
	}
	reader, err := s.Store.ReaderAt(ctx, ocispecs.Descriptor{Digest: d})
	if err != nil {
		return false, err
	}
	verifier := d.Verifier()
	_, err = io.Copy(verifier, &untilDone{ctx, io.NewSectionReader(reader, 0, reader.Size())})
	if err := errors.Join(err, reader.Close()); err != nil {
		return false, fmt.Errorf("input %s: %w", d, err)
	}
	if verifier.Verified() {
		s.good.Store(d, true)
		return true, nil
	}
	return false, nil
}

// removeDamaged removes every blob whose content is not that of its digest.
func (s *verifiedStore) removeDamaged(ctx context.Context) error {
	return s.Walk(ctx, func(info content.Info) error {
		if whole, err := s.whole(ctx, info.Digest); err != nil || whole {
			return err
		}
		return s.Delete(ctx, info.Digest)
	})
}

// wrote remembers a blob that this process has just written and hashed.
func (s *verifiedStore) wrote(d digest.Digest) { s.good.Store(d, true) }

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
