package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/publish"
)

// Tags of this publisher's own, besides publish.Image's.
const (
	// tagParent is on a snapshot: that of which it is the child.
	tagParent = "nodesmith-parent"
	// tagChecksum is on a snapshot that is whole: EBS's checksum over all that it
	// holds.
	tagChecksum = "nodesmith-checksum"
	tagArch     = "nodesmith-architecture"
)

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

// tag returns a tag's value, "" for none.
func tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// lacks says whether one of the wanted tags is not there.
func lacks(tags []types.Tag, want []types.Tag) bool {
	return slices.ContainsFunc(want, func(t types.Tag) bool { return tag(tags, *t.Key) != *t.Value })
}

// short is the part of a digest that ends an AMI's name.
func short(d digest.Digest) string { return d.Encoded()[:12] }

// imagesOf returns the AMIs of a disk, the oldest first: those with its tag, and
// those by name whose tags an ended run did not come to.
func (r *region) imagesOf(ctx context.Context, disk digest.Digest) ([]types.Image, error) {
	var found []types.Image
	for _, by := range []types.Filter{filter("tag:"+publish.TagDigest, disk.String()), filter("name", "*-"+short(disk))} {
		images, err := r.images(ctx, by)
		if err != nil {
			return nil, err
		}
		for _, image := range images {
			if !slices.ContainsFunc(found, func(i types.Image) bool { return *i.ImageId == *image.ImageId }) {
				found = append(found, image)
			}
		}
	}
	slices.SortFunc(found, func(a, b types.Image) int {
		return strings.Compare(aws.ToString(a.CreationDate)+*a.ImageId, aws.ToString(b.CreationDate)+*b.ImageId)
	})
	return found, nil
}

// images returns the account's own AMIs.
func (r *region) images(ctx context.Context, filters ...types.Filter) ([]types.Image, error) {
	var all []types.Image
	pages := ec2.NewDescribeImagesPaginator(r.look, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: list AMIs: %w", r.name, err)
		}
		all = append(all, page.Images...)
	}
	return all, nil
}

// image returns one AMI; nil if there is none.
func (r *region) image(ctx context.Context, id string) (*types.Image, error) {
	images, err := r.images(ctx, filter("image-id", id))
	if err != nil || len(images) == 0 {
		return nil, err
	}
	return &images[0], nil
}

// snapshots returns the account's own snapshots, the newest first.
func (r *region) snapshots(ctx context.Context, filters ...types.Filter) ([]types.Snapshot, error) {
	var all []types.Snapshot
	pages := ec2.NewDescribeSnapshotsPaginator(r.look, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: list snapshots: %w", r.name, err)
		}
		all = append(all, page.Snapshots...)
	}
	slices.SortFunc(all, func(a, b types.Snapshot) int {
		if c := aws.ToTime(b.StartTime).Compare(aws.ToTime(a.StartTime)); c != 0 {
			return c
		}
		return strings.Compare(*a.SnapshotId, *b.SnapshotId)
	})
	return all, nil
}

// snapshot returns one snapshot; nil if there is none.
func (r *region) snapshot(ctx context.Context, id string) (*types.Snapshot, error) {
	found, err := r.snapshots(ctx, filter("snapshot-id", id))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// snapshotsOf returns those that hold a disk, or are to hold it.
func (r *region) snapshotsOf(ctx context.Context, disk digest.Digest) ([]types.Snapshot, error) {
	return r.snapshots(ctx, filter("tag:"+publish.TagDigest, disk.String()))
}

// disksOf returns the snapshots that an AMI is made of.
func disksOf(image types.Image) []string {
	var ids []string
	for _, device := range image.BlockDeviceMappings {
		if device.Ebs != nil && aws.ToString(device.Ebs.SnapshotId) != "" {
			ids = append(ids, *device.Ebs.SnapshotId)
		}
	}
	return ids
}

// setTags puts tags on resources.
func (r *region) setTags(ctx context.Context, tags []types.Tag, ids ...string) error {
	_, err := r.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: tags})
	if err != nil {
		return fmt.Errorf("%s: tag %s: %w", r.name, strings.Join(ids, ", "), err)
	}
	return nil
}

// deleteSnapshots deletes those of the snapshots that are still there.
func (r *region) deleteSnapshots(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		_, err := r.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		if err != nil && !is(err, "InvalidSnapshot.NotFound") {
			return fmt.Errorf("%s: delete snapshot %s: %w", r.name, id, err)
		}
	}
	return nil
}
