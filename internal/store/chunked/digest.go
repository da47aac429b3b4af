package chunked

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/format"
)

// DigestOf returns the digest that a disk has in a store, without one: it reads
// the disk's data once (twice if it has more than MaxChunks), on all cores.
func DigestOf(ctx context.Context, disk format.Source) (digest.Digest, error) {
	table, err := tableOf(ctx, disk, MinChunk)
	if err != nil {
		return "", err
	}
	w, size := Writer{table: table}, int64(MinChunk)
	for w.count(size) > MaxChunks {
		size *= 2
	}
	if size > MinChunk {
		if table, err = tableOf(ctx, disk, size); err != nil {
			return "", err
		}
	}
	return table.Digest(), nil
}

// tableOf cuts a disk into chunks and takes their sums.
func tableOf(ctx context.Context, disk format.Source, size int64) (Table, error) {
	indexes, err := dataChunks(disk, size)
	if err != nil {
		return Table{}, err
	}
	sums := make([]digest.Digest, len(indexes)) // "" for zeros
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan int)
	group.Go(func() error {
		defer close(work)
		for i := range indexes {
			select {
			case work <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(runtime.GOMAXPROCS(0), max(1, int(bufferBytes/size))) {
		group.Go(func() error {
			chunk := make([]byte, size)
			for i := range work {
				var err error
				if sums[i], err = sumOf(disk, indexes[i], chunk); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Table{}, err
	}
	table := Table{Size: disk.Size(), ChunkSize: size}
	for i, sum := range sums {
		if sum != "" {
			table.Chunks = append(table.Chunks, Chunk{Index: indexes[i], Sum: sum})
		}
	}
	return table, nil
}

// dataChunks are the indexes of the chunks that may hold something.
func dataChunks(disk format.Source, size int64) (indexes []int64, err error) {
	for at := int64(0); at < disk.Size(); {
		extent, err := disk.NextData(at)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find data from byte %d on: %w", at, err)
		}
		last := (extent.End() - 1) / size
		for index := max(extent.Offset, at) / size; index <= last; index++ {
			indexes = append(indexes, index)
		}
		at = (last + 1) * size
	}
	return indexes, nil
}

// sumOf returns the sum of a chunk, filled up with zeros; "" if it holds nothing
// else.
func sumOf(disk format.Source, index int64, chunk []byte) (digest.Digest, error) {
	clear(chunk)
	offset := index * int64(len(chunk))
	part := chunk[:min(int64(len(chunk)), disk.Size()-offset)]
	if n, err := disk.ReadAt(part, offset); n < len(part) {
		return "", fmt.Errorf("read %d bytes at %d: %w", len(part), offset, err)
	}
	for _, b := range chunk {
		if b != 0 {
			return digest.FromBytes(chunk), nil
		}
	}
	return "", nil
}
