package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// Build is an image that was built.
type Build struct {
	Name, Tag string
	// Lock and Spec are documents: what it was built from.
	Lock, Spec []byte
	Disks      []NewDisk
	// Key and Origins are notes for the builder's next run: a text that follows
	// everything that the image depends on, and by infrastructure what made its
	// disk. They stay on this machine.
	Key     string
	Origins map[string]string
	// Stored is now.
	Stored time.Time
}

// replacedKept is how many images of a name stay in the store after others took
// their tags, so that a build can be compared with the one before.
const replacedKept = 3

// Writer makes the writer of one disk, to be given to Commit with its Table.
func (x *Session) Writer(ctx context.Context, size int64, known chunked.Known) (*chunked.Writer, error) {
	return chunked.NewWriter(ctx, x.store.blobs, size, known)
}

// Commit puts an image into the store under its tag and as Latest. An image that
// had the tag before keeps its digest as a name.
func (x *Session) Commit(ctx context.Context, b Build) (Image, error) {
	if r, err := ParseReference(b.Name + ":" + b.Tag); err != nil || r.Tag == Latest {
		return Image{}, fault.New(fault.Usage, "give another tag", "an image can't be stored as %s:%s", b.Name, b.Tag)
	}
	s := x.store
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, ArtifactType: ImageType}
	for _, d := range b.Disks {
		if !d.Table.Whole(s.blobs) { // a reader found one damaged meanwhile
			return Image{}, damaged(fmt.Errorf("chunks of the disk for %s are gone again", d.Infrastructure))
		}
		members, err := s.put(d)
		if err != nil {
			return Image{}, err
		}
		index.Manifests = append(index.Manifests, members...)
	}
	for _, d := range []document{
		{artifactType: LockType, data: b.Lock, title: b.Name + ".lock.yaml"},
		{artifactType: SpecType, data: b.Spec, title: b.Name + ".yaml"},
	} {
		member, err := s.attach(d)
		if err != nil {
			return Image{}, err
		}
		index.Manifests = append(index.Manifests, member)
	}
	first := b.Disks[0].About
	index.Annotations = map[string]string{ocispecs.AnnotationRefName: b.Name + ":" + b.Tag, ocispecs.AnnotationCreated: first.Built.UTC().Format(time.RFC3339)}
	described, err := s.writeJSON(ocispecs.MediaTypeImageIndex, index)
	if err != nil {
		return Image{}, err
	}
	image := Image{Name: b.Name, Digest: described.Digest, Size: described.Size, Key: b.Key, Origins: b.Origins, Stored: b.Stored}
	return x.name(ctx, image, b.Tag)
}

// name lists an image whose blobs are in the store under a tag and as Latest.
func (x *Session) name(ctx context.Context, i Image, tag string) (Image, error) {
	s := x.store
	if err := s.describe(ctx, &i); err != nil {
		return i, err
	}
	if err := s.blobs.Sync(); err != nil {
		return i, err
	}
	i.Tags = []string{tag, Latest}
	return i, s.update(ctx, func(entries []ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
		if before, err := find(imagesOf(entries), Reference{Name: i.Name, Tag: tag}); err == nil && before.Digest == i.Digest {
			i.Stored = before.Stored // the same again: nothing changes
			if i.Key == "" {
				i.Key, i.Origins = before.Key, before.Origins
			}
		}
		i.Proven = provenIn(s, entries, i.disks)
		entries = untag(entries, i.Name, tag, Latest)
		entries = slices.DeleteFunc(entries, func(d ocispecs.Descriptor) bool { return isImage(d) && d.Digest == i.Digest && tagOf(d) == "" })
		entries = append(entries, i.entry(tag), i.entry(Latest))
		return dropReplaced(entries, i.Name), nil
	})
}

// describe fills in what the list of images shows, from the image's disks.
func (s *Store) describe(ctx context.Context, i *Image) error {
	disks, err := s.Disks(ctx, *i)
	if err != nil {
		return err
	}
	if len(disks) == 0 {
		return damaged(fmt.Errorf("%s has no disk", i.Name))
	}
	first := disks[0].About
	i.OS, i.Kubernetes, i.Architecture = first.Distro+" "+first.DistroVersion, first.Kubernetes, first.Architecture
	i.Built, i.Infrastructures, i.Bytes, i.disks = first.Built, nil, 0, disks
	chunks := map[digest.Digest]int64{}
	for _, d := range disks {
		i.Infrastructures = append(i.Infrastructures, d.Infrastructure)
		for _, c := range d.Table.Chunks {
			chunks[c.Blob] = c.Size
		}
		i.Bytes += d.Manifest.Size
	}
	for size := range maps.Values(chunks) {
		i.Bytes += size
	}
	return nil
}

// provenIn says how far the disks were proven, by the reports that entries list.
func provenIn(s *Store, entries []ocispecs.Descriptor, disks []*Disk) map[string]proof.Proof {
	proven := map[string]proof.Proof{}
	for _, d := range disks {
		proven[d.Infrastructure] = proof.Of(resultsOf(s.referrers(entries, d.Manifest.Digest)), d.Firmware)
	}
	return proven
}

// untag takes tags away from the image of that name that has them. One that has
// no other tag stays, without any.
func untag(entries []ocispecs.Descriptor, name string, tags ...string) []ocispecs.Descriptor {
	var left, taken []ocispecs.Descriptor
	for _, d := range entries {
		if isImage(d) && d.Annotations[nameAnnotation] == name && slices.Contains(tags, tagOf(d)) {
			taken = append(taken, d)
			continue
		}
		left = append(left, d)
	}
	for _, d := range taken {
		same := func(other ocispecs.Descriptor) bool {
			return isImage(other) && other.Digest == d.Digest && other.Annotations[nameAnnotation] == name
		}
		if !slices.ContainsFunc(left, same) {
			d.Annotations = maps.Clone(d.Annotations)
			delete(d.Annotations, ocispecs.AnnotationRefName)
			left = append(left, d)
		}
	}
	return left
}

// dropReplaced forgets all but the newest of a name's images without a tag.
func dropReplaced(entries []ocispecs.Descriptor, name string) []ocispecs.Descriptor {
	kept := map[digest.Digest]bool{}
	for _, i := range imagesOf(entries) { // what was stored last first
		if i.Name == name && len(i.Tags) == 0 && len(kept) < replacedKept {
			kept[i.Digest] = true
		}
	}
	return slices.DeleteFunc(entries, func(d ocispecs.Descriptor) bool {
		return isImage(d) && d.Annotations[nameAnnotation] == name && tagOf(d) == "" && !kept[d.Digest]
	})
}

// Tag gives an image a second name.
func (s *Store) Tag(ctx context.Context, from, to Reference) (Image, error) {
	if to.Digest != "" || to.Tag == Latest {
		return Image{}, fault.New(fault.Usage, "nodesmith tag NAME:TAG OTHER:TAG", "%s can't be given: it needs a tag of its own", to)
	}
	var image Image
	err := s.update(ctx, func(entries []ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
		var err error
		if image, err = find(imagesOf(entries), from); err != nil {
			return nil, err
		}
		image.Name, image.Tags = to.Name, []string{to.Tag}
		entries = untag(entries, to.Name, to.Tag)
		entries = slices.DeleteFunc(entries, func(d ocispecs.Descriptor) bool {
			return isImage(d) && d.Digest == image.Digest && d.Annotations[nameAnnotation] == to.Name && tagOf(d) == ""
		})
		return dropReplaced(append(entries, image.entry(to.Tag)), to.Name), nil
	})
	return image, err
}

// Remove takes a reference out of the store: a tag, or with a digest the image
// with all its tags. Latest moves to what was stored last of what is left. The
// blobs stay until Collect.
func (s *Store) Remove(ctx context.Context, r Reference) (Image, error) {
	var image Image
	err := s.update(ctx, func(entries []ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
		var err error
		if image, err = find(imagesOf(entries), r); err != nil {
			return nil, err
		}
		others := slices.DeleteFunc(slices.Clone(image.Tags), func(tag string) bool { return tag == Latest || tag == r.Tag })
		whole := r.Digest != "" || r.Tag == Latest || len(others) == 0
		entries = slices.DeleteFunc(entries, func(d ocispecs.Descriptor) bool {
			return isImage(d) && d.Digest == image.Digest && d.Annotations[nameAnnotation] == r.Name && (whole || tagOf(d) == r.Tag)
		})
		return follow(entries, r.Name), nil
	})
	return image, err
}

// follow gives Latest to the image of that name that was stored last, if none
// has it and there is one with a tag.
func follow(entries []ocispecs.Descriptor, name string) []ocispecs.Descriptor {
	images := slices.DeleteFunc(imagesOf(entries), func(i Image) bool { return i.Name != name || len(i.Tags) == 0 })
	for _, i := range images {
		if slices.Contains(i.Tags, Latest) {
			return entries
		}
	}
	if len(images) == 0 {
		return entries
	}
	return append(entries, images[0].entry(Latest))
}
