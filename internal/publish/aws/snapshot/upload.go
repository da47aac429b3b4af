package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/format"
)

// Upload writes a disk into a snapshot that was started and is not complete.
type Upload struct {
	Client *ebs.Client
	// ID is the snapshot's.
	ID   string
	Disk format.Source
	// Parent are the blocks of the snapshot that this one is a child of; nil for
	// none.
	Parent Digests
	// From is where an earlier run ended: blocks below it arrived then. They are
	// read and hashed again, and not sent.
	From int32
	// Workers is how many blocks are sent at once; 0 means DefaultWorkers.
	Workers int
	Retry   Retry
	// Arrived is told now and then, and at the end, that all blocks below through
	// are there; Sent hears of each block. Both may be nil. Sent is called by
	// several goroutines.
	Arrived func(through int32) error
	Sent    func(bytes int64)
}

// Result is what a snapshot holds.
type Result struct {
	// Blocks are all that are not zero, Sent those that this snapshot has of its
	// own: what its parent lacks, or all without one.
	Blocks, Sent Digests
}

// job is a block that was read.
type job struct {
	index int32
	data  []byte
}

// transfer is one run of an Upload.
type transfer struct {
	*Upload
	jobs  chan job
	free  chan []byte
	track tracker

	mu     sync.Mutex
	result Result
}

// Run sends what has to be sent. After an error those blocks below what Arrived
// was told last are there.
func (u *Upload) Run(ctx context.Context) (*Result, error) {
	workers := u.Workers
	if workers <= 0 {
		workers = DefaultWorkers
	}
	t := &transfer{Upload: u, jobs: make(chan job), free: make(chan []byte, workers), track: tracker{tell: u.Arrived, through: u.From}}
	for range workers {
		t.free <- nil // the room is made when it is first needed
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(t.jobs)
		return t.read(ctx)
	})
	for range workers {
		group.Go(func() error {
			for j := range t.jobs {
				if err := t.handle(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// What arrived before a failure is worth a note too.
	if err := errors.Join(group.Wait(), t.track.flush()); err != nil {
		return nil, err
	}
	t.result.Blocks.sort()
	t.result.Sent.sort()
	return &t.result, nil
}

// read hands out the blocks that may hold something here or in the parent, in
// ascending order.
func (t *transfer) read(ctx context.Context) error {
	candidates := walk{disk: t.Disk, parent: t.Parent}
	for {
		index, err := candidates.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var room []byte
		select {
		case room = <-t.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if room == nil {
			room = make([]byte, BlockSize)
		}
		if err := readBlock(t.Disk, index, room); err != nil {
			return err
		}
		t.track.begin(index)
		select {
		case t.jobs <- job{index, room}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readBlock fills room with the block, with zeros behind the disk's end.
func readBlock(disk format.Source, index int32, room []byte) error {
	offset := int64(index) * BlockSize
	want := room[:max(0, min(BlockSize, disk.Size()-offset))]
	if n, err := disk.ReadAt(want, offset); n < len(want) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read the disk at byte %d: %w", offset, err)
	}
	clear(room[len(want):])
	return nil
}

// handle hashes one block, and sends it if the snapshot would else hold
// something different.
func (t *transfer) handle(ctx context.Context, j job) error {
	defer func() { t.free <- j.data }()
	sum := zerosSum
	if !bytes.Equal(j.data, zeros) {
		sum = sha256.Sum256(j.data)
	}
	changed := sum != t.Parent.Sum(j.index)
	if changed && j.index >= t.From {
		if err := t.Retry(ctx, func(ctx context.Context) error { return put(ctx, t.Client, t.ID, j.index, j.data, sum) }); err != nil {
			return err
		}
		if t.Upload.Sent != nil {
			t.Upload.Sent(BlockSize)
		}
	}
	t.mu.Lock()
	if sum != zerosSum {
		t.result.Blocks = append(t.result.Blocks, Block{j.index, sum})
	}
	if changed {
		t.result.Sent = append(t.result.Sent, Block{j.index, sum})
	}
	t.mu.Unlock()
	return t.track.end(j.index)
}

// walk names the blocks that are worth a look.
type walk struct {
	disk   format.Source
	parent Digests
	at     int32 // the first block that was not looked at
	extent format.Extent
	ended  bool // no data behind extent
}

// next returns the next block that may hold something in the disk or holds
// something in the parent; io.EOF at the end.
func (w *walk) next() (int32, error) {
	offset := int64(w.at) * BlockSize
	for !w.ended && w.extent.End() <= offset {
		var err error
		switch w.extent, err = w.disk.NextData(offset); {
		case err == io.EOF:
			w.ended = true
		case err != nil:
			return 0, fmt.Errorf("look for data behind byte %d of the disk: %w", offset, err)
		}
	}
	for len(w.parent) > 0 && w.parent[0].Index < w.at {
		w.parent = w.parent[1:]
	}
	var index int32
	switch {
	case w.ended && len(w.parent) == 0:
		return 0, io.EOF
	case w.ended:
		index = w.parent[0].Index
	default:
		index = max(w.at, int32(w.extent.Offset/BlockSize))
		if len(w.parent) > 0 {
			index = min(index, w.parent[0].Index)
		}
	}
	w.at = index + 1
	return index, nil
}

// DataSize is how many bytes an upload without a parent sends at most.
func DataSize(disk format.Source) (int64, error) {
	w, size := walk{disk: disk}, int64(0)
	for {
		switch _, err := w.next(); {
		case err == io.EOF:
			return size, nil
		case err != nil:
			return 0, err
		}
		size += BlockSize
	}
}
