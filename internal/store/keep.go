package store

import (
	"context"
	"slices"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
)

// KeepNewest takes images out of the store, of each name all but the newest, and
// returns them. An image with a tag that somebody gave it stays, whatever its age,
// and so does Latest. Where it only looks, it takes none. The blobs stay until
// Collect.
func (s *Store) KeepNewest(ctx context.Context, newest int, look bool) (gone []Image, err error) {
	if newest < 1 {
		return nil, fault.New(fault.Usage, "nodesmith rm removes single images", "of each name at least one image has to stay, not %d", newest)
	}
	err = s.update(ctx, func(entries []ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
		kept := map[string]int{}
		for _, i := range imagesOf(entries) { // what was stored last first
			switch {
			case slices.Contains(i.Tags, Latest), kept[i.Name] < newest:
				kept[i.Name]++
			case !s.givenTag(ctx, i):
				gone = append(gone, i)
			}
		}
		if look {
			return entries, nil
		}
		return without(entries, gone), nil
	})
	return gone, err
}

// givenTag says whether the image has another tag than those that a build gives.
// One whose lock can't be read counts as if it had.
func (s *Store) givenTag(ctx context.Context, i Image) bool {
	if len(i.Tags) == 0 {
		return false
	}
	document, ok, err := s.Document(ctx, i, LockType, "")
	if err != nil || !ok {
		return true
	}
	own := Short(document.blob.Digest)
	return slices.ContainsFunc(i.Tags, func(tag string) bool { return tag != Latest && tag != own })
}
