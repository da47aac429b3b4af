package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/store/blob"
)

// Usage is an amount of blobs.
type Usage struct {
	Blobs int
	Bytes int64
}

func (u *Usage) add(size int64) { u.Blobs, u.Bytes = u.Blobs+1, u.Bytes+size }

// sum is a SHA-256 digest in the form that takes the least memory.
type sum [32]byte

func sumOf(d digest.Digest) (s sum) {
	_, _ = hex.Decode(s[:], []byte(d.Encoded())) // a digest that was validated
	return s
}

// marked are the blobs that something names.
type marked map[sum]bool

// mark adds what a descriptor leads to. In a manifest, whatever looks like a
// digest counts as named: who removes blobs must not know less than who writes
// them. What is damaged leads nowhere; what can't be read now is an error.
func (s *Store) mark(named marked, d ocispecs.Descriptor) error {
	if d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 || named[sumOf(d.Digest)] {
		return nil
	}
	named[sumOf(d.Digest)] = true
	if d.MediaType != ocispecs.MediaTypeImageIndex && d.MediaType != ocispecs.MediaTypeImageManifest {
		return nil
	}
	data, err := s.blobs.Read(d, maxManifest)
	if errors.Is(err, blob.ErrDamaged) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("what image %s consists of: %w", d.Digest, err)
	}
	if d.MediaType == ocispecs.MediaTypeImageManifest {
		digests(data, func(found sum) { named[found] = true })
		return nil
	}
	var index ocispecs.Index
	if json.Unmarshal(data, &index) != nil { // somebody's who writes what is no index
		return nil
	}
	for _, m := range index.Manifests {
		if err := s.mark(named, m); err != nil {
			return err
		}
	}
	return nil
}

// digests calls visit for everything in a document that looks like a digest.
func digests(document []byte, visit func(sum)) {
	prefix := []byte(digest.SHA256.String() + ":")
	for {
		i := bytes.Index(document, prefix)
		if i < 0 {
			return
		}
		document = document[i+len(prefix):]
		var found sum
		if n := hex.EncodedLen(len(found)); len(document) >= n {
			if _, err := hex.Decode(found[:], document[:n]); err == nil {
				visit(found)
			}
		}
	}
}

// reach marks what the entries lead to, and returns those that stay: reports whose
// subject is gone go, too.
func (s *Store) reach(entries []ocispecs.Descriptor) (marked, []ocispecs.Descriptor, error) {
	named := marked{}
	for _, d := range entries {
		if subjectOf(d) != "" {
			continue
		}
		if err := s.mark(named, d); err != nil {
			return nil, nil, err
		}
	}
	left := slices.DeleteFunc(slices.Clone(entries), func(d ocispecs.Descriptor) bool {
		subject := subjectOf(d)
		return subject != "" && !named[sumOf(subject)]
	})
	for _, d := range left {
		if err := s.mark(named, d); err != nil {
			return nil, nil, err
		}
	}
	return named, left, nil
}

// without leaves out the images of those digests.
func without(entries []ocispecs.Descriptor, images []Image) []ocispecs.Descriptor {
	return slices.DeleteFunc(slices.Clone(entries), func(d ocispecs.Descriptor) bool {
		return isImage(d) && slices.ContainsFunc(images, func(i Image) bool { return i.Digest == d.Digest && i.Name == d.Annotations[nameAnnotation] })
	})
}

// Unused says what Collect would remove if those images were gone: none for what
// it would remove now.
func (s *Store) Unused(_ context.Context, gone ...Image) (usage Usage, err error) {
	index, err := s.index()
	if err != nil {
		return usage, err
	}
	named, _, err := s.reach(without(index.Manifests, gone))
	if err != nil {
		return usage, err
	}
	err = s.blobs.All(func(b blob.Info) error {
		if !named[sumOf(b.Digest)] {
			usage.add(b.Size)
		}
		return nil
	})
	return usage, err
}

// Used is what all blobs of the store take.
func (s *Store) Used(context.Context) (usage Usage, err error) {
	err = s.blobs.All(func(b blob.Info) error {
		usage.add(b.Size)
		return nil
	})
	return usage, err
}

// Shared says what of an image other images have, too, and what is its own.
func (s *Store) Shared(_ context.Context, i Image) (shared, own Usage, err error) {
	index, err := s.index()
	if err != nil {
		return shared, own, err
	}
	others, _, err := s.reach(slices.DeleteFunc(slices.Clone(index.Manifests), func(d ocispecs.Descriptor) bool { return d.Digest == i.Digest }))
	if err != nil {
		return shared, own, err
	}
	its := marked{}
	if err := s.mark(its, i.descriptor()); err != nil {
		return shared, own, err
	}
	err = s.blobs.All(func(b blob.Info) error {
		key := sumOf(b.Digest)
		switch {
		case its[key] && others[key]:
			shared.add(b.Size)
		case its[key]:
			own.add(b.Size)
		}
		return nil
	})
	return shared, own, err
}

// Collect removes the blobs that no image leads to, and what killed processes
// left. While another process reads or writes images it does nothing and reports
// false: the next Collect will.
func (s *Store) Collect(ctx context.Context) (freed Usage, done bool, err error) {
	done, err = s.exclusively(func() error {
		return s.locked(ctx, func() error {
			freed, err = s.collect(ctx)
			return err
		})
	})
	return freed, done, err
}

func (s *Store) collect(ctx context.Context) (freed Usage, err error) {
	var named marked
	err = s.rewrite(func(entries []ocispecs.Descriptor) (left []ocispecs.Descriptor, err error) {
		named, left, err = s.reach(entries)
		return left, err
	})
	if err != nil {
		return freed, err
	}
	err = s.blobs.All(func(b blob.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if named[sumOf(b.Digest)] {
			return nil
		}
		freed.add(b.Size)
		return s.blobs.Remove(b.Digest)
	})
	if err != nil {
		return freed, err
	}
	files, size, err := s.blobs.Sweep()
	freed.Blobs, freed.Bytes = freed.Blobs+files, freed.Bytes+size
	return freed, err
}
