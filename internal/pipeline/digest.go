package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// digestAttribute is the extended attribute that keeps a file's digest, with the
// size and the time of the content that it is of: the file is read once.
const digestAttribute = "user.nodesmith.digest"

// Digests returns the digests of the artifacts' files, in their order. Where files
// can carry a note, only those that are new or changed are read.
func Digests(ctx context.Context, artifacts []Artifact) ([]digest.Digest, error) {
	digests := make([]digest.Digest, len(artifacts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // more would only seek
	for i, a := range artifacts {
		group.Go(func() (err error) {
			digests[i], err = fileDigest(ctx, a.Path)
			return err
		})
	}
	return digests, group.Wait()
}

func fileDigest(ctx context.Context, path string) (digest.Digest, error) {
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
	hash := sha256.New()
	if _, err := io.Copy(hash, &stoppable{ctx, file}); err != nil {
		return "", fmt.Errorf("digest of %s: %w", path, err)
	}
	sum := digest.NewDigest(digest.SHA256, hash)
	return sum, setAttribute(path, digestAttribute, sum.String()+seen)
}

// stoppable reads until ctx ends.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.Reader.Read(p)
}
