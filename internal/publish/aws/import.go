package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/publish"
)

const (
	// partSize is how much of the object is sent at once. S3 takes 10000 parts.
	partSize    = 32 << 20
	partWorkers = 4
	maxParts    = 10000
)

// objectOf is the key of a disk's file in the bucket: known by whoever has lost
// the journal.
func objectOf(disk digest.Digest) string { return "nodesmith/" + disk.Encoded() + ".vmdk" }

// importSnapshot sends the disk as a VMDK to the bucket and has EC2 import it.
// The step's notes are the upload that is under way, the import's task, and the
// snapshot's id.
func (j *job) importSnapshot(ctx context.Context, run *publish.Run, r *region) error {
	found, err := j.adopt(ctx, run, r)
	if err != nil || found != nil && tag(found.Tags, tagChecksum) != "" {
		return err
	}
	if err := j.adoptTask(ctx, run, r); err != nil {
		return err
	}
	if run.Get("task") == "" {
		if err := j.sendObject(ctx, run, r); err != nil {
			return err
		}
		if err := j.startImport(ctx, run, r); err != nil {
			return err
		}
	}
	id, err := j.waitForImport(ctx, run, r)
	if err != nil {
		return err
	}
	if err := run.Note("id", id); err != nil {
		return err
	}
	// The object goes before the snapshot counts as whole, so it can't be forgotten.
	if err := r.deleteObject(ctx, j.target.Import.Bucket, objectOf(j.image.Digest)); err != nil {
		return err
	}
	// EC2 tags what it imports with a task's own tags alone. There is no checksum to
	// be had: the tag says that the snapshot is whole.
	tags := append([]types.Tag{{Key: aws.String(tagChecksum), Value: aws.String("imported")}}, j.tags...)
	return r.setTags(ctx, tags, id)
}

// sendObject sends the file in parts; an upload that an ended run began goes on.
func (j *job) sendObject(ctx context.Context, run *publish.Run, r *region) error {
	content, err := j.image.Open(ctx, "vmdk")
	if err != nil {
		return err
	}
	defer content.Close()
	bucket, key, size := &j.target.Import.Bucket, objectOf(j.image.Digest), content.Size()
	count := int32((size + partSize - 1) / partSize)
	if count > maxParts {
		return fmt.Errorf("%s has %d bytes, S3 takes %d", key, size, int64(maxParts)*partSize)
	}
	there, err := r.hasObject(ctx, *bucket, key, size)
	if err != nil || there {
		return err
	}
	upload, err := j.beginUpload(ctx, run, r, key)
	if err != nil {
		return err
	}
	parts, err := j.partsOf(ctx, r, key, upload, count)
	if err != nil {
		return err
	}
	if err := j.sendParts(ctx, run, r, key, upload, content, parts); err != nil {
		return err
	}
	_, err = r.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: &key, UploadId: &upload, MultipartUpload: &s3types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		if there, lookErr := r.hasObject(ctx, *bucket, key, size); lookErr == nil && there {
			return nil // an earlier answer was lost
		}
		return fmt.Errorf("finish %s in bucket %s: %w", key, *bucket, err)
	}
	return nil
}

// hasObject says whether the whole file is in the bucket. What an image's file is
// follows from its disk, so one of the same key and size is the same.
func (r *region) hasObject(ctx context.Context, bucket, key string, size int64) (bool, error) {
	out, err := r.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	if is(err, "NotFound", "NoSuchKey") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s in bucket %s: %w", key, bucket, err)
	}
	return aws.ToInt64(out.ContentLength) == size, nil
}

// uploads returns those of a key that were begun and not finished.
func (r *region) uploads(ctx context.Context, bucket, key string) ([]string, error) {
	var ids []string
	pages := s3.NewListMultipartUploadsPaginator(r.s3, &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("uploads to bucket %s: %w", bucket, err)
		}
		for _, u := range page.Uploads {
			ids = append(ids, *u.UploadId)
		}
	}
	return ids, nil
}

// beginUpload returns an upload that an ended run began, or a new one.
func (j *job) beginUpload(ctx context.Context, run *publish.Run, r *region, key string) (string, error) {
	bucket := &j.target.Import.Bucket
	left, err := r.uploads(ctx, *bucket, key)
	if err != nil {
		return "", err
	}
	if len(left) == 0 {
		out, err := r.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key, ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256})
		if err != nil {
			return "", fmt.Errorf("begin to send %s to bucket %s: %w", key, *bucket, err)
		}
		left = []string{*out.UploadId}
	}
	for _, extra := range left[1:] { // whose answer was lost
		if err := r.abort(ctx, *bucket, key, extra); err != nil {
			return "", err
		}
	}
	return left[0], run.Note("upload", left[0])
}

func (r *region) abort(ctx context.Context, bucket, key, upload string) error {
	_, err := r.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: &upload})
	if err != nil && !is(err, "NoSuchUpload") {
		return fmt.Errorf("end an upload to bucket %s: %w", bucket, err)
	}
	return nil
}

// deleteObject deletes an object, and ends what was begun to be sent of it.
func (r *region) deleteObject(ctx context.Context, bucket, key string) error {
	if _, err := r.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", key, bucket, err)
	}
	left, err := r.uploads(ctx, bucket, key)
	if err != nil {
		return err
	}
	for _, upload := range left {
		if err := r.abort(ctx, bucket, key, upload); err != nil {
			return err
		}
	}
	return nil
}

// partsOf returns a list of as many parts, with those that are there filled in.
func (j *job) partsOf(ctx context.Context, r *region, key, upload string, count int32) ([]s3types.CompletedPart, error) {
	parts := make([]s3types.CompletedPart, count)
	pages := s3.NewListPartsPaginator(r.s3, &s3.ListPartsInput{Bucket: &j.target.Import.Bucket, Key: &key, UploadId: &upload})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("parts of %s in bucket %s: %w", key, j.target.Import.Bucket, err)
		}
		for _, p := range page.Parts {
			if n := aws.ToInt32(p.PartNumber); n >= 1 && n <= count {
				parts[n-1] = s3types.CompletedPart{PartNumber: p.PartNumber, ETag: p.ETag, ChecksumSHA256: p.ChecksumSHA256}
			}
		}
	}
	return parts, nil
}

// sendParts sends those that are missing, a few at once.
func (j *job) sendParts(ctx context.Context, run *publish.Run, r *region, key, upload string, content publish.Content, parts []s3types.CompletedPart) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(partWorkers)
	rooms := sync.Pool{New: func() any { return new([partSize]byte) }}
	for i := range parts {
		if parts[i].ETag != nil {
			continue
		}
		group.Go(func() error {
			room := rooms.Get().(*[partSize]byte)
			defer rooms.Put(room)
			offset := int64(i) * partSize
			data := room[:min(partSize, content.Size()-offset)]
			if n, err := content.ReadAt(data, offset); n < len(data) {
				return fmt.Errorf("read the file at byte %d: %w", offset, errors.Join(err, io.ErrUnexpectedEOF))
			}
			number := int32(i + 1)
			return run.Retry(ctx, func(ctx context.Context) error {
				out, err := r.s3.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: &j.target.Import.Bucket, Key: &key, UploadId: &upload, PartNumber: &number,
					Body: bytes.NewReader(data), ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
				})
				if err != nil {
					return fmt.Errorf("part %d of %s: %w", number, key, err)
				}
				parts[i] = s3types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumSHA256: out.ChecksumSHA256}
				run.Sent(int64(len(data)))
				return nil
			})
		})
	}
	return group.Wait()
}
