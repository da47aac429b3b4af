package aws

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
)

// snapshotTimeout is after how many minutes without a block EBS gives a snapshot
// up: a night in which nobody runs the command again.
const snapshotTimeout = 720

// writeSnapshot makes the snapshot of the disk, or goes on with one that an
// ended run began. The step's notes are the snapshot's id; the token of its
// creation; through, below which block all arrived; and sent, when all did.
func (j *job) writeSnapshot(ctx context.Context, run *publish.Run, r *region) error {
	found, err := j.adopt(ctx, run, r)
	if err != nil || found != nil && tag(found.Tags, tagChecksum) != "" {
		return err
	}
	if found == nil {
		if found, err = j.startSnapshot(ctx, run, r); err != nil {
			return err
		}
	}
	id, parent := *found.SnapshotId, tag(found.Tags, tagParent)
	var before snapshot.Digests
	if parent != "" {
		if before, err = j.blocksOf(ctx, run, r, parent); err != nil {
			// What the parent holds can't be known any more: begin without one.
			return errors.Join(fmt.Errorf("blocks of snapshot %s, the parent: %w", parent, err), j.discard(ctx, run, r, id))
		}
	}
	from, _ := strconv.ParseInt(run.Get("through"), 10, 32)
	upload := snapshot.Upload{
		Client: r.ebs, ID: id, Disk: j.image.Disk, Parent: before, From: int32(from), Retry: run.Retry, Sent: run.Sent,
		Arrived: func(through int32) error { return run.Note("through", strconv.Itoa(int(through))) },
	}
	result, err := upload.Run(ctx)
	if err != nil {
		return err
	}
	if err := run.Note("sent", strconv.Itoa(len(result.Sent))); err != nil {
		return err
	}
	if err := j.complete(ctx, run, r, id, result); err != nil {
		return err
	}
	path := j.blocksPath(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("list of blocks: %w", err)
	}
	if err := result.Blocks.Save(path); err != nil {
		return err
	}
	return r.setTags(ctx, []types.Tag{{Key: aws.String(tagChecksum), Value: aws.String(result.Blocks.Checksum())}}, id)
}

// adopt returns the snapshot that an ended run left: whole, or to go on with. It
// deletes those that are neither.
func (j *job) adopt(ctx context.Context, run *publish.Run, r *region) (*types.Snapshot, error) {
	left, err := r.snapshotsOf(ctx, j.image.Digest)
	if err != nil {
		return nil, err
	}
	noted := run.Get("id")
	at := slices.IndexFunc(left, func(s types.Snapshot) bool { return tag(s.Tags, tagChecksum) != "" })
	if at < 0 {
		at = slices.IndexFunc(left, func(s types.Snapshot) bool { return *s.SnapshotId == noted && s.State != types.SnapshotStateError })
	}
	if at < 0 {
		// Another run's, which may be under way: both send the same.
		at = slices.IndexFunc(left, func(s types.Snapshot) bool { return s.State == types.SnapshotStatePending })
	}
	for i, s := range left {
		if i == at {
			continue
		}
		if err := r.deleteSnapshots(ctx, *s.SnapshotId); err != nil {
			return nil, err
		}
	}
	if at < 0 {
		if noted != "" {
			return nil, run.Forget(step(r, "snapshot"))
		}
		return nil, nil
	}
	id := *left[at].SnapshotId
	if id != noted {
		// What is noted is another's: all is sent again.
		if err := errors.Join(run.Forget(step(r, "snapshot")), run.Note("id", id)); err != nil {
			return nil, err
		}
	}
	return &left[at], nil
}

// discard takes a snapshot away that can't be finished.
func (j *job) discard(ctx context.Context, run *publish.Run, r *region, id string) error {
	if err := r.deleteSnapshots(ctx, id); err != nil {
		return err
	}
	return run.Forget(step(r, "snapshot"))
}

// token is the idempotency token of a creation: the same when the step is run
// again, and another once what it made was taken back.
func (j *job) token(run *publish.Run, what ...string) (string, error) {
	if run.Get("attempt") == "" {
		if err := run.Note("attempt", rand.Text()); err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(append(what, j.Place(), j.image.Digest.String(), run.Get("attempt")), "\n")))
	return hex.EncodeToString(sum[:16]), nil
}

// startSnapshot starts one, as the child of the version before if there is one.
func (j *job) startSnapshot(ctx context.Context, run *publish.Run, r *region) (*types.Snapshot, error) {
	parent, err := j.parent(ctx, run, r)
	if err != nil {
		return nil, err
	}
	token, err := j.token(run, "snapshot", parent)
	if err != nil {
		return nil, err
	}
	tags := slices.Clone(j.tags)
	in := &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(snapshot.VolumeSize(j.image.Disk.Size())), ClientToken: &token,
		Description: aws.String(j.name), Timeout: aws.Int32(snapshotTimeout),
	}
	switch key := j.target.KMSKeys[r.name]; {
	case parent != "": // which it is encrypted like
		in.ParentSnapshotId = &parent
		tags = append(tags, types.Tag{Key: aws.String(tagParent), Value: &parent})
	case j.target.Encrypt:
		in.Encrypted = aws.Bool(true)
		if key != "" {
			in.KmsKeyArn = &key
		}
	}
	for _, t := range tags {
		in.Tags = append(in.Tags, ebstypes.Tag{Key: t.Key, Value: t.Value})
	}
	out, err := r.ebs.StartSnapshot(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("start a snapshot: %w", err)
	}
	return &types.Snapshot{SnapshotId: out.SnapshotId, Tags: tags}, run.Note("id", *out.SnapshotId)
}

// parent returns the newest whole snapshot of the same NodeImage that the new one
// can be a child of, "" for none. A child is encrypted like its parent, and no
// smaller. Of equal ones it prefers that of the same Kubernetes.
func (j *job) parent(ctx context.Context, run *publish.Run, r *region) (string, error) {
	all, err := r.snapshots(ctx, filter("tag:"+publish.TagBy, j.image.Name), filter("tag-key", tagChecksum))
	if err != nil {
		return "", err
	}
	key := j.target.KMSKeys[r.name]
	var fits []types.Snapshot
	for _, s := range all {
		switch {
		case s.State != types.SnapshotStateCompleted, tag(s.Tags, publish.TagDigest) == j.image.Digest.String(),
			tag(s.Tags, tagArch) != j.image.Architecture, aws.ToBool(s.Encrypted) != j.target.Encrypt,
			// An alias says nothing about the key that a snapshot has.
			j.target.Encrypt && key != "" && aws.ToString(s.KmsKeyId) != key,
			int64(aws.ToInt32(s.VolumeSize)) > snapshot.VolumeSize(j.image.Disk.Size()):
			continue
		}
		fits = append(fits, s)
	}
	same := slices.IndexFunc(fits, func(s types.Snapshot) bool { return tag(s.Tags, publish.TagKubernetes) == j.image.Kubernetes })
	if same > 0 {
		fits = fits[same:]
	}
	if len(fits) == 0 {
		return "", nil
	}
	id := *fits[0].SnapshotId
	if _, err := j.blocksOf(ctx, run, r, id); err != nil {
		if ctx.Err() != nil || classify(err) != publish.Final {
			return "", err
		}
		return "", nil // a full upload does as well
	}
	return id, nil
}

// blocksOf returns what a published snapshot holds: as it was noted, or, on
// another machine than the one that published it, read back.
func (j *job) blocksOf(ctx context.Context, run *publish.Run, r *region, id string) (snapshot.Digests, error) {
	path := j.blocksPath(id)
	if list, err := snapshot.Load(path); err == nil {
		return list, nil
	}
	alive := func(ctx context.Context, request func(context.Context) error) error {
		run.Alive()
		return run.Retry(ctx, request)
	}
	list, err := snapshot.ReadDigests(ctx, r.ebs, id, alive)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("list of blocks: %w", err)
	}
	return list, list.Save(path)
}

// complete seals the snapshot, and waits until EC2 calls it whole. Where an
// earlier answer was lost EBS refuses a second time; what EC2 says counts.
func (j *job) complete(ctx context.Context, run *publish.Run, r *region, id string, result *snapshot.Result) error {
	sealed := snapshot.Complete(ctx, r.ebs, id, result)
	if sealed != nil && classify(sealed) != publish.Final {
		return sealed
	}
	return j.poll(ctx, run.Alive, func(ctx context.Context) (bool, error) {
		s, err := r.snapshot(ctx, id)
		switch {
		case err != nil:
			return false, err
		case s == nil || s.State == types.SnapshotStateError:
			return false, errors.Join(fmt.Errorf("snapshot %s failed: EBS gave it up", id), sealed, j.discard(ctx, run, r, id))
		case s.State == types.SnapshotStateCompleted:
			return true, nil
		}
		return false, sealed
	})
}
