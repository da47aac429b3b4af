package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/progress"
)

// digestAttribute is the extended attribute that keeps a file's digest, with the
// size and the time of the content that it is of: the file is read once.
const digestAttribute = "user.nodesmith.digest"

// Digests returns the digests of the artifacts' files, in their order. Where files
// can carry a note, only those that are new or changed are read.
func (p *Pipeline) Digests(ctx context.Context, artifacts []Artifact) ([]digest.Digest, error) {
	digests := make([]digest.Digest, len(artifacts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // more would only seek
	for i, a := range artifacts {
		group.Go(func() (err error) {
			digests[i], err = p.fileDigest(ctx, a.Path)
			return err
		})
	}
	return digests, group.Wait()
}

func (p *Pipeline) fileDigest(ctx context.Context, path string) (_ digest.Digest, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
	if note, err := attribute(path, digestAttribute); err == nil {
		if d, ok := strings.CutSuffix(note, seen); ok && digest.Digest(d).Validate() == nil {
			return digest.Digest(d), nil
		}
	}
	work := p.record.Begin(tree.StageFormats, "digest of "+filepath.Base(path))
	defer func() { work.End(err) }()
	work.Expect(info.Size())
	hash := sha256.New()
	if _, err := io.Copy(hash, &stoppable{ctx, file, work}); err != nil {
		return "", fmt.Errorf("digest of %s: %w", path, err)
	}
	sum := digest.NewDigest(digest.SHA256, hash)
	return sum, setAttribute(path, digestAttribute, sum.String()+seen)
}

// stoppable reads until ctx ends, and tells how far it is.
type stoppable struct {
	ctx context.Context
	io.Reader
	work *progress.Work
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, context.Cause(s.ctx)
	}
	n, err := s.Reader.Read(p)
	s.work.Add(int64(n))
	return n, err
}
