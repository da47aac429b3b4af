package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"golang.org/x/sync/errgroup"
)

// Read reads a complete snapshot's blocks, several at once and in no order, and
// hands each to visit, whose data is its own during the call only. Blocks that
// were never written are left out.
func Read(ctx context.Context, client *ebs.Client, id string, retry Retry, visit func(index int32, data []byte) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(DefaultWorkers)
	rooms := sync.Pool{New: func() any { return new([BlockSize]byte) }}
	var next *string
	for {
		var page *ebs.ListSnapshotBlocksOutput
		err := retry(ctx, func(ctx context.Context) (err error) {
			page, err = client.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id, NextToken: next})
			return err
		})
		if err != nil {
			return fmt.Errorf("list the blocks of snapshot %s: %w", id, firstOf(group.Wait(), err))
		}
		for _, block := range page.Blocks {
			group.Go(func() error {
				room := rooms.Get().(*[BlockSize]byte)
				defer rooms.Put(room)
				err := retry(ctx, func(ctx context.Context) error {
					return get(ctx, client, id, *block.BlockIndex, block.BlockToken, room[:])
				})
				if err != nil {
					return err
				}
				return visit(*block.BlockIndex, room[:])
			})
		}
		if next = page.NextToken; aws.ToString(next) == "" {
			return group.Wait()
		}
	}
}

// firstOf prefers the error that ended the others.
func firstOf(cause, err error) error {
	if cause != nil {
		return cause
	}
	return err
}

// get reads one block into room, and holds it against the checksum that comes
// with it.
func get(ctx context.Context, client *ebs.Client, id string, index int32, token *string, room []byte) error {
	out, err := client.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: &index, BlockToken: token})
	if err != nil {
		return fmt.Errorf("block %d of snapshot %s: %w", index, id, err)
	}
	defer out.BlockData.Close()
	if _, err := io.ReadFull(out.BlockData, room); err != nil {
		return fmt.Errorf("block %d of snapshot %s: %w", index, id, err)
	}
	sum := sha256.Sum256(room)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != aws.ToString(out.Checksum) {
		return fmt.Errorf("block %d of snapshot %s has SHA-256 %s, EBS says %s", index, id, got, aws.ToString(out.Checksum))
	}
	return nil
}

// ReadDigests reads a complete snapshot and returns what its blocks hold: for
// who has not kept what Upload returned.
func ReadDigests(ctx context.Context, client *ebs.Client, id string, retry Retry) (Digests, error) {
	var mu sync.Mutex
	var list Digests
	err := Read(ctx, client, id, retry, func(index int32, data []byte) error {
		sum := sha256.Sum256(data)
		if sum == zerosSum {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		list = append(list, Block{index, sum})
		return nil
	})
	if err != nil {
		return nil, err
	}
	list.sort()
	return list, nil
}
