package chunked

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/store/blob"
)

// bufferBytes bounds the chunks that a Writer has in hand.
const bufferBytes = 512 << 20

// Writer takes a disk's blocks (it is a format.Writer) and makes its table. Close
// ends it, after Finish or instead of it.
type Writer struct {
	blobs *blob.Folder
	known Known
	table Table

	most    int // chunks
	encoder *zstd.Encoder
	work    *errgroup.Group
	parent  context.Context // format.Writer's methods take none
	ctx     context.Context // of work
	free    chan *buffer
	current *buffer  // the chunk that blocks go to
	chunks  []*Chunk // in the disk's order; filled in by work
}

// buffer is one chunk on its way.
type buffer struct {
	data, encoded []byte
	chunk         *Chunk
}

// NewWriter makes a writer of a disk of size bytes. It does not compress what is
// known; nil for nothing.
func NewWriter(ctx context.Context, blobs *blob.Folder, size int64, known Known) (*Writer, error) {
	return newWriter(ctx, blobs, Table{Size: size, ChunkSize: MinChunk}, known)
}

func newWriter(ctx context.Context, blobs *blob.Folder, table Table, known Known) (*Writer, error) {
	workers := min(runtime.GOMAXPROCS(0), max(1, int(bufferBytes/(2*table.ChunkSize))-1))
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(workers), zstd.WithEncoderCRC(false), // digests do better
		zstd.WithWindowSize(int(table.ChunkSize)), zstd.WithSingleSegment(true), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	w := &Writer{blobs: blobs, known: known, table: table, most: MaxChunks, encoder: encoder, parent: ctx, free: make(chan *buffer, workers+1)}
	w.work, w.ctx = errgroup.WithContext(ctx)
	w.work.SetLimit(workers)
	for range workers + 1 {
		w.free <- &buffer{}
	}
	return w, nil
}

// Codec is none: chunks are compressed here, as they are longer than blocks.
func (w *Writer) Codec() format.Codec { return nil }

// WriteBlock takes the next block.
func (w *Writer) WriteBlock(b format.Block) error {
	index := b.Offset / w.table.ChunkSize
	if w.current == nil || w.current.chunk.Index != index {
		if err := w.begin(index); err != nil {
			return err
		}
		if b.Chunk != nil && w.table.ChunkSize == format.ChunkSize {
			w.current.chunk.Sum = digest.NewDigestFromBytes(digest.SHA256, b.Chunk[:])
		}
	}
	copy(w.current.data[b.Offset%w.table.ChunkSize:], b.Data)
	return nil
}

// begin hands the chunk so far to the workers and begins the next.
func (w *Writer) begin(index int64) error {
	w.submit()
	select {
	case w.current = <-w.free:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	if w.current.data == nil {
		w.current.data = make([]byte, w.table.ChunkSize)
	}
	clear(w.current.data)
	w.current.chunk = &Chunk{Index: index}
	w.chunks = append(w.chunks, w.current.chunk)
	return nil
}

func (w *Writer) submit() {
	if b := w.current; b != nil {
		w.current = nil
		w.work.Go(func() error {
			defer func() { w.free <- b }()
			return w.store(b)
		})
	}
}

// store puts one chunk into the folder, unless it is there.
func (w *Writer) store(b *buffer) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if b.chunk.Sum == "" {
		b.chunk.Sum = digest.FromBytes(b.data)
	}
	if known, ok := w.known[b.chunk.Sum]; ok && w.blobs.Has(known.descriptor()) {
		b.chunk.Blob, b.chunk.Size = known.Blob, known.Size
		return nil
	}
	b.encoded = w.encoder.EncodeAll(b.data, b.encoded[:0])
	name, err := w.blobs.Write(b.encoded)
	b.chunk.Blob, b.chunk.Size = name, int64(len(b.encoded))
	return err
}

// Finish waits for the last chunk. A disk of more than MaxChunks gets larger
// ones, as if it had been written with them.
func (w *Writer) Finish(format.Summary) error {
	if err := w.wait(); err != nil {
		return err
	}
	size := w.table.ChunkSize
	for w.count(size) > w.most {
		size *= 2
	}
	if size > MaxChunk {
		return fault.New(fault.Usage, "", "the disk holds more than the %d GiB that the store takes", int64(MaxChunks)*MaxChunk>>30)
	}
	if size == w.table.ChunkSize {
		return nil
	}
	return w.recut(size)
}

// wait returns when all chunks are in the folder.
func (w *Writer) wait() error {
	w.submit()
	if err := w.work.Wait(); err != nil {
		return err
	}
	w.table.Chunks = make([]Chunk, len(w.chunks))
	for i, c := range w.chunks {
		w.table.Chunks[i] = *c
	}
	return nil
}

// count is how many chunks of size bytes the disk has.
func (w *Writer) count(size int64) (n int) {
	last := int64(-1)
	for _, c := range w.table.Chunks {
		if index := c.Index * w.table.ChunkSize / size; index != last {
			n, last = n+1, index
		}
	}
	return n
}

// recut writes the disk once more, in chunks of size bytes. Those that it was
// written in become garbage.
func (w *Writer) recut(size int64) (err error) {
	disk, err := open(w.blobs, w.table)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }() // only read
	larger, err := newWriter(w.parent, w.blobs, Table{Size: w.table.Size, ChunkSize: size}, w.known)
	if err != nil {
		return err
	}
	defer larger.Close()
	block := make([]byte, w.table.ChunkSize)
	for _, c := range w.table.Chunks {
		offset := c.Index * w.table.ChunkSize
		clear(block)
		if _, err := disk.ReadAt(block, offset); err != nil && err != io.EOF {
			return err
		}
		if err := larger.WriteBlock(format.Block{Offset: offset, Data: block}); err != nil {
			return err
		}
	}
	if err := larger.wait(); err != nil {
		return err
	}
	w.table = larger.table
	return nil
}

// Table is the disk's, after Finish.
func (w *Writer) Table() Table { return w.table }

// Close ends what is still running.
func (w *Writer) Close() {
	_ = w.work.Wait() // Finish's error counts
	_ = w.encoder.Close()
}
