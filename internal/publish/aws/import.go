package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/publish"
)

const (
	// partSize is how much of the object is sent at once. S3 takes 10000 parts.
	partSize    = 32 << 20
	partWorkers = 4
	maxParts    = 10000
)

// importSnapshot sends the disk as a VMDK to the bucket and has EC2 import it.
// The step's notes are the upload that is under way, the import's task, and the
// snapshot's id.
func (j *job) importSnapshot(ctx context.Context, run *publish.Run, r *region) error {
	found, err := j.adopt(ctx, run, r)
	if err != nil || found != nil && tag(found.Tags, tagChecksum) != "" {
		return err
	}
	key := "nodesmith/" + j.name + ".vmdk"
	if run.Get("task") == "" {
		if err := j.sendObject(ctx, run, r, key); err != nil {
			return err
		}
		if err := j.startImport(ctx, run, r, key); err != nil {
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
	// EC2 tags what it imports with a task's own tags alone. There is no checksum to
	// be had: the tag says that the snapshot is whole.
	tags := append([]types.Tag{{Key: aws.String(tagChecksum), Value: aws.String("imported")}}, j.tags...)
	if err := r.setTags(ctx, tags, id); err != nil {
		return err
	}
	_, err = r.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &j.target.Import.Bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", key, j.target.Import.Bucket, err)
	}
	return nil
}

// sendObject sends the file in parts; an upload that an ended run began goes on.
func (j *job) sendObject(ctx context.Context, run *publish.Run, r *region, key string) error {
	content, err := j.image.Open(ctx, "vmdk")
	if err != nil {
		return err
	}
	defer content.Close()
	bucket, size := &j.target.Import.Bucket, content.Size()
	count := int32((size + partSize - 1) / partSize)
	if count > maxParts {
		return fmt.Errorf("%s has %d bytes, S3 takes %d", key, size, int64(maxParts)*partSize)
	}
	upload := run.Get("upload")
	if upload == "" {
		out, err := r.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key, ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256})
		if err != nil {
			return fmt.Errorf("begin to send %s to bucket %s: %w", key, *bucket, err)
		}
		upload = *out.UploadId
		if err := run.Note("upload", upload); err != nil {
			return err
		}
	}
	parts, err := j.partsOf(ctx, r, key, upload, count)
	if is(err, "NoSuchUpload") {
		return errors.Join(err, run.Forget(step(r, "snapshot")))
	}
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
		return fmt.Errorf("finish %s in bucket %s: %w", key, *bucket, err)
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

func (j *job) startImport(ctx context.Context, run *publish.Run, r *region, key string) error {
	token, err := j.token(run, "import")
	if err != nil {
		return err
	}
	in := &ec2.ImportSnapshotInput{
		ClientToken: &token, Description: &j.name, RoleName: &j.target.Import.Role,
		DiskContainer: &types.SnapshotDiskContainer{
			Format: aws.String("VMDK"), Description: &j.name,
			UserBucket: &types.UserBucket{S3Bucket: &j.target.Import.Bucket, S3Key: &key},
		},
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImportSnapshotTask, Tags: j.tags}},
	}
	if j.target.Encrypt {
		in.Encrypted = aws.Bool(true)
		if key := j.target.KMSKeys[r.name]; key != "" {
			in.KmsKeyId = &key
		}
	}
	out, err := r.ec2.ImportSnapshot(ctx, in)
	if err != nil {
		return fmt.Errorf("import %s: %w", key, err)
	}
	return run.Note("task", *out.ImportTaskId)
}

// waitForImport returns the snapshot that the noted task made.
func (j *job) waitForImport(ctx context.Context, run *publish.Run, r *region) (id string, err error) {
	task := run.Get("task")
	err = j.poll(ctx, run.Alive, func(ctx context.Context) (bool, error) {
		out, err := r.ec2.DescribeImportSnapshotTasks(ctx, &ec2.DescribeImportSnapshotTasksInput{ImportTaskIds: []string{task}})
		if err != nil {
			return false, fmt.Errorf("import task %s: %w", task, err)
		}
		if len(out.ImportSnapshotTasks) == 0 || out.ImportSnapshotTasks[0].SnapshotTaskDetail == nil {
			return false, nil // not seen yet
		}
		detail := out.ImportSnapshotTasks[0].SnapshotTaskDetail
		id = aws.ToString(detail.SnapshotId)
		switch aws.ToString(detail.Status) {
		case "completed":
			return true, nil
		case "deleted", "deleting", "error":
			return false, errors.Join(fmt.Errorf("import task %s failed: %s", task, aws.ToString(detail.StatusMessage)), run.Forget(step(r, "snapshot")))
		}
		return false, nil
	})
	return id, err
}
