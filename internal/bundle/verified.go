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
	reader, err := s.Store.ReaderAt(ctx, blob)
	if err != nil {
		return nil, err
	}
	if _, known := s.good.Load(blob.Digest); known {
		return reader, nil
	}
	verifier := blob.Digest.Verifier()
	if _, err := io.Copy(verifier, &untilDone{ctx, io.NewSectionReader(reader, 0, reader.Size())}); err != nil {
		return nil, errors.Join(fmt.Errorf("input %s: %w", blob.Digest, err), reader.Close())
	}
	if !verifier.Verified() {
		err := fault.New(fault.Unverifiable, "run the same command again: it is made anew",
			"input %s in the cache was damaged; it is removed: run the same command again", blob.Digest)
		return nil, errors.Join(err, reader.Close(), s.Delete(ctx, blob.Digest))
	}
	s.good.Store(blob.Digest, true)
	return reader, nil
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
