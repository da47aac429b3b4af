package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// Tree is what an image consists of, in an order in which a registry takes it:
// the blobs, the manifests that name them, what refers to those, the index.
type Tree struct {
	Blobs     []ocispecs.Descriptor
	Manifests []ocispecs.Descriptor
	Reports   []ocispecs.Descriptor
	Index     ocispecs.Descriptor
}

// Tree lists what an image that is whole consists of.
func (x *Session) Tree(i Image) (Tree, error) {
	s := x.store
	t := Tree{Index: i.descriptor()}
	index, err := s.contents(i)
	if err != nil {
		return t, err
	}
	entries, err := s.index()
	if err != nil {
		return t, err
	}
	seen := map[digest.Digest]bool{}
	add := func(m ocispecs.Descriptor) error {
		blobs, err := x.Blobs(m)
		for _, b := range blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				t.Blobs = append(t.Blobs, b)
			}
		}
		return err
	}
	for _, m := range index.Manifests {
		if err := add(m); err != nil {
			return t, fmt.Errorf("%s: %w", i.Reference(), err)
		}
		t.Manifests = append(t.Manifests, m)
		if m.ArtifactType != DiskType {
			continue
		}
		for _, r := range s.referrers(entries.Manifests, m.Digest) {
			if err := add(r); err != nil {
				return t, fmt.Errorf("report of %s: %w", i.Reference(), err)
			}
			t.Reports = append(t.Reports, r)
		}
	}
	return t, nil
}

// Blobs returns the blobs that a manifest in the store names, within the bounds
// of what the store takes: a manifest of a registry may be anybody's.
func (x *Session) Blobs(m ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	var manifest ocispecs.Manifest
	if err := x.store.readJSON(m, maxManifest, &manifest); err != nil {
		return nil, err
	}
	blobs := append([]ocispecs.Descriptor{manifest.Config}, manifest.Layers...)
	for _, b := range blobs {
		limit := int64(maxDocument)
		if b.MediaType == chunked.MediaType {
			limit = chunked.MaxChunk + chunked.MaxChunk/8
		}
		if b.Size < 0 || b.Size > limit {
			return nil, fmt.Errorf("manifest %s names a blob of %d bytes: %w", m.Digest, b.Size, format.ErrCorrupt)
		}
	}
	if len(blobs) > chunked.MaxChunks+1 {
		return nil, fmt.Errorf("manifest %s names %d blobs: %w", m.Digest, len(blobs), format.ErrCorrupt)
	}
	return blobs, nil
}

// maxMembers is how many manifests an image has at most: it bounds what a
// registry can make a pull fetch.
const maxMembers = 256

// Members returns what an image's index in the store lists.
func (x *Session) Members(index ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	var list ocispecs.Index
	if err := x.store.readJSON(index, maxManifest, &list); err != nil {
		return nil, err
	}
	if list.ArtifactType != ImageType || len(list.Manifests) > maxMembers {
		return nil, fmt.Errorf("index %s is of type %q and lists %d manifests: %w", index.Digest, list.ArtifactType, len(list.Manifests), ErrForeign)
	}
	for _, m := range list.Manifests {
		if m.MediaType != ocispecs.MediaTypeImageManifest {
			return nil, fmt.Errorf("index %s lists a %q: %w", index.Digest, m.MediaType, ErrForeign)
		}
	}
	return list.Manifests, nil
}

// ErrForeign says that something is no image of nodesmith's.
var ErrForeign = errors.New("it is no node image that nodesmith made")

// Has reports whether a blob is in the store.
func (x *Session) Has(b ocispecs.Descriptor) bool { return x.store.blobs.Has(b) }

// Read returns a manifest.
func (x *Session) Read(m ocispecs.Descriptor) ([]byte, error) {
	data, err := x.store.blobs.Read(m, maxManifest)
	return data, damaged(err)
}

// Open opens a blob, to be sent as it is: who gets it checks it.
func (x *Session) Open(b ocispecs.Descriptor) (io.ReadCloser, error) {
	return x.store.blobs.Open(b.Digest)
}

// Receive keeps what r gives if it is the blob.
func (x *Session) Receive(ctx context.Context, b ocispecs.Descriptor, r io.Reader) error {
	return x.store.blobs.Receive(ctx, b, r)
}

// Adopt lists an image whose blobs were received, under its name and a tag; ""
// for the one that it had where it was built.
func (x *Session) Adopt(ctx context.Context, name, tag string, index ocispecs.Descriptor, stored time.Time) (Image, error) {
	i := Image{Name: name, Digest: index.Digest, Size: index.Size, Stored: stored}
	if tag == "" {
		list, err := x.store.contents(i)
		if err != nil {
			return i, err
		}
		_, tag, _ = strings.Cut(list.Annotations[ocispecs.AnnotationRefName], ":")
	}
	if r, err := ParseReference(name + ":" + tag); err != nil || r.Tag == Latest {
		tag = Short(index.Digest)
	}
	return x.name(ctx, i, tag)
}

// Refer adds reports that were received to those of a disk's manifest.
func (x *Session) Refer(ctx context.Context, subject digest.Digest, reports []ocispecs.Descriptor) error {
	var known []ocispecs.Descriptor
	for _, r := range reports {
		// Not every registry repeats in its list what the manifest says of itself.
		var manifest ocispecs.Manifest
		if err := x.store.readJSON(r, maxManifest, &manifest); err != nil {
			return err
		}
		r.Annotations, r.ArtifactType = manifest.Annotations, manifest.ArtifactType
		about := manifest.Subject != nil && manifest.Subject.Digest == subject
		if result, ok := resultOf(r); ok && about && r.ArtifactType == fmt.Sprintf(ReportType, result.Level) {
			known = append(known, r)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return x.store.refer(ctx, subject, known)
}

// IsReport reports whether a descriptor may be of a report of verify: by its type,
// or, as some registries take a configuration's for it, by what it says of itself.
func IsReport(d ocispecs.Descriptor) bool {
	if _, ok := resultOf(d); ok {
		return d.MediaType == ocispecs.MediaTypeImageManifest
	}
	for _, level := range proof.Names() {
		if d.ArtifactType == fmt.Sprintf(ReportType, level) {
			return d.MediaType == ocispecs.MediaTypeImageManifest
		}
	}
	return false
}
