package aws

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/publish"
)

// importTasks returns the imports of a disk that EC2 still knows, by their tag.
func (r *region) importTasks(ctx context.Context, disk digest.Digest) ([]types.ImportSnapshotTask, error) {
	var ours []types.ImportSnapshotTask
	pages := ec2.NewDescribeImportSnapshotTasksPaginator(r.look, &ec2.DescribeImportSnapshotTasksInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: list imports: %w", r.name, err)
		}
		for _, task := range page.ImportSnapshotTasks {
			if tag(task.Tags, publish.TagDigest) == disk.String() && task.SnapshotTaskDetail != nil {
				ours = append(ours, task)
			}
		}
	}
	return ours, nil
}

// The states of an import's task.
const (
	taskActive    = "active"
	taskCompleted = "completed"
	taskDeleting  = "deleting"
)

// adoptTask notes an import that an ended run began and did not come to note.
func (j *job) adoptTask(ctx context.Context, run *publish.Run, r *region) error {
	if run.Get("task") != "" {
		return nil
	}
	tasks, err := r.importTasks(ctx, j.image.Digest)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		switch detail := task.SnapshotTaskDetail; aws.ToString(detail.Status) {
		case taskCompleted:
			s, err := r.snapshot(ctx, aws.ToString(detail.SnapshotId))
			if err != nil {
				return err
			}
			if s == nil {
				continue // retracted
			}
			return run.Note("task", *task.ImportTaskId)
		case taskActive:
			return run.Note("task", *task.ImportTaskId)
		}
	}
	return nil
}

func (j *job) startImport(ctx context.Context, run *publish.Run, r *region) error {
	token, err := j.token(run, "import")
	if err != nil {
		return err
	}
	key := objectOf(j.image.Digest)
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
		detail, err := r.importTask(ctx, task)
		if err != nil || detail == nil {
			return false, err // not seen yet
		}
		id = aws.ToString(detail.SnapshotId)
		switch status := aws.ToString(detail.Status); status {
		case taskCompleted:
			return true, nil
		case taskActive:
			return false, nil
		default:
			return false, errors.Join(fmt.Errorf("import task %s is %s: %s", task, status, aws.ToString(detail.StatusMessage)), run.Forget(step(r, "snapshot")))
		}
	})
	return id, err
}

// importTask returns how far a task is; nil if EC2 does not show it.
func (r *region) importTask(ctx context.Context, task string) (*types.SnapshotTaskDetail, error) {
	out, err := r.ec2.DescribeImportSnapshotTasks(ctx, &ec2.DescribeImportSnapshotTasksInput{ImportTaskIds: []string{task}})
	if err != nil {
		return nil, fmt.Errorf("import task %s: %w", task, err)
	}
	if len(out.ImportSnapshotTasks) == 0 {
		return nil, nil
	}
	return out.ImportSnapshotTasks[0].SnapshotTaskDetail, nil
}

// retractImport takes away what ended runs left of the way through S3: the file
// in the bucket, and imports that go on. It returns the snapshots that imports
// made and that no run came to tag.
func (p *Publisher) retractImport(ctx context.Context, r *region, disk digest.Digest, plan *publish.Plan) (made []string, err error) {
	bucket, key := p.target.Import.Bucket, objectOf(disk)
	if bucket == "" || r.name != p.target.Region {
		return nil, nil
	}
	tasks, err := r.importTasks(ctx, disk)
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		switch detail := task.SnapshotTaskDetail; aws.ToString(detail.Status) {
		case taskCompleted:
			made = append(made, aws.ToString(detail.SnapshotId))
		case taskActive:
			id := *task.ImportTaskId
			plan.Steps = append(plan.Steps, publish.Step{
				ID: step(r, "cancel/"+id), Region: r.name, Kind: "import", Name: id, Action: publish.Delete,
				Do: func(ctx context.Context, run *publish.Run) error { return explain(p.cancelImport(ctx, run, r, id)) },
			})
		}
	}
	out, err := r.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &key})
	if err != nil {
		return nil, fmt.Errorf("look into bucket %s: %w", bucket, err)
	}
	begun, err := r.uploads(ctx, bucket, key)
	if err != nil || len(out.Contents)+len(begun) == 0 {
		return made, err
	}
	plan.Steps = append(plan.Steps, publish.Step{
		ID: step(r, "object"), Region: r.name, Kind: "object", Name: "s3://" + bucket + "/" + key, Action: publish.Delete,
		Do: func(ctx context.Context, run *publish.Run) error {
			return explain(errors.Join(r.deleteObject(ctx, bucket, key), run.Forget(step(r, "snapshot"))))
		},
	})
	return made, nil
}

// cancelImport ends an import, and deletes the snapshot if it was faster.
func (p *Publisher) cancelImport(ctx context.Context, run *publish.Run, r *region, id string) error {
	_, refused := r.ec2.CancelImportTask(ctx, &ec2.CancelImportTaskInput{ImportTaskId: &id})
	if refused != nil && classify(refused) != publish.Final {
		return refused
	}
	return p.poll(ctx, run.Alive, func(ctx context.Context) (bool, error) {
		detail, err := r.importTask(ctx, id)
		switch {
		case err != nil || detail == nil:
			return true, err
		case aws.ToString(detail.Status) == taskCompleted:
			return true, errors.Join(r.deleteSnapshots(ctx, aws.ToString(detail.SnapshotId)), run.Forget(step(r, "snapshot")))
		case aws.ToString(detail.Status) == taskActive && refused != nil:
			return false, fmt.Errorf("end import %s: %w", id, refused)
		}
		if status := aws.ToString(detail.Status); status == taskActive || status == taskDeleting {
			return false, nil
		}
		return true, run.Forget(step(r, "snapshot"))
	})
}
