// Package snapshot writes a disk into an EBS snapshot, and reads one back,
// through EBS's direct API.
//
// What comes in is a disk, a snapshot that was started, and what is known of
// its parent; what goes out is a snapshot that holds the disk byte for byte, and
// the digests of its blocks, by which the next version finds what changed.
// Blocks of zeros and blocks that the parent holds are not sent. The disk is
// read once, forward; blocks are hashed and sent in parallel. An upload that was
// ended goes on where it was, if the disk is the same. Memory is one block for
// each worker, and 36 bytes for each block that is not zero.
package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
)

// BlockSize is EBS's block, in bytes: the only length that PutSnapshotBlock
// takes.
const BlockSize = 512 << 10

// GiB is the unit of a volume's size.
const GiB = 1 << 30

// DefaultWorkers is how many blocks are under way at once: at 1 Gbit/s a block
// takes 4 ms, so this fills the link up to a round trip of a quarter of a second.
const DefaultWorkers = 64

// zeros is what a block that was never written holds.
var (
	zeros    = make([]byte, BlockSize)
	zerosSum = sha256.Sum256(zeros)
)

// VolumeSize is the size in GiB of a volume that holds size bytes.
func VolumeSize(size int64) int64 { return (size + GiB - 1) / GiB }

// Retry runs one request until it succeeds or fails for good.
type Retry func(ctx context.Context, request func(context.Context) error) error

// put sends one block and holds EBS's checksum against ours.
func put(ctx context.Context, client *ebs.Client, id string, index int32, data []byte, sum [sha256.Size]byte) error {
	checksum := base64.StdEncoding.EncodeToString(sum[:])
	out, err := client.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: &index, DataLength: aws.Int32(BlockSize), BlockData: bytes.NewReader(data),
		Checksum: &checksum, ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	if err != nil {
		return fmt.Errorf("block %d of snapshot %s: %w", index, id, err)
	}
	got := aws.ToString(out.Checksum)
	if got == "" { // an answer that is not EBS's own
		return fmt.Errorf("block %d of snapshot %s: no checksum came back: %w", index, id, io.ErrUnexpectedEOF)
	}
	if got != checksum {
		return fmt.Errorf("block %d of snapshot %s: EBS stored SHA-256 %s, sent was %s", index, id, got, checksum)
	}
	return nil
}

// Complete seals the snapshot: EBS compares the number of blocks and the
// checksum over all of their checksums with what it got.
func Complete(ctx context.Context, client *ebs.Client, id string, r *Result) error {
	_, err := client.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
		SnapshotId: &id, ChangedBlocksCount: aws.Int32(int32(len(r.Sent))), Checksum: aws.String(r.Sent.Checksum()),
		ChecksumAlgorithm:         types.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	if err != nil {
		return fmt.Errorf("complete snapshot %s: %w", id, err)
	}
	return nil
}
