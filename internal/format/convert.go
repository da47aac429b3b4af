package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
)

// What bounds memory: maxGroups groups, each a chunk, are on their way at once,
// with their data and one encoded copy for each codec, which is 165 MiB with four
// codecs on 32 cores or more; an encoder's own tables take 1 to 2 MiB.
const (
	groupBlocks = ChunkSize / BlockSize
	maxWorkers  = 32
	maxGroups   = 2*maxWorkers + 2
)

// Converter says how to convert; its zero value is right for most.
type Converter struct {
	// Workers is how many goroutines read and compress; 0 means one for each
	// core that Go uses. At most 32.
	Workers int
	// Blocks has what codecs made of blocks before, and gets what they make now;
	// nil compresses everything. The files are the same with and without it.
	Blocks *blockcache.Cache
}

// Convert reads src once and makes all targets. If anything fails, or ctx ends,
// no target's path is touched. The folders of the paths must exist.
func (c Converter) Convert(ctx context.Context, src Source, targets []Target) (Summary, error) {
	size := src.Size()
	if size < 0 || size > MaxSize || size%SectorSize != 0 {
		return Summary{}, fmt.Errorf("disk of %d bytes: want whole sectors of %d bytes and at most %d bytes", size, SectorSize, int64(MaxSize))
	}
	files := make([]*file, 0, len(targets))
	defer func() {
		for _, f := range files {
			f.cleanup()
		}
	}()
	writers := make([]Writer, 0, len(targets))
	for _, target := range targets {
		f, err := create(target, size)
		if err != nil {
			return Summary{}, err
		}
		files = append(files, f)
		writers = append(writers, f.writer)
	}
	summary, err := c.feed(ctx, src, writers)
	if err != nil {
		return Summary{}, explain(err)
	}
	return summary, publish(ctx, files, summary)
}

// file is a Target on its way; a sink has neither pending nor out.
type file struct {
	path    string
	pending *atomicfile.File
	out     *Output
	writer  Writer
}

func create(target Target, size int64) (*file, error) {
	if target.Sink != nil {
		return &file{path: target.Path, writer: &named{target.Sink, target.Path}}, nil
	}
	pending, err := atomicfile.New(target.Path, "", 0o644)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", target.Path, err)
	}
	out := NewOutput(pending, 0)
	writer, err := target.New(out, size)
	if err != nil {
		_ = pending.Cleanup()
		return nil, explain(fmt.Errorf("begin %s: %w", target.Path, err))
	}
	return &file{target.Path, pending, out, &named{writer, target.Path}}, nil
}

// cleanup removes what has not got its name.
func (f *file) cleanup() {
	if f.pending != nil {
		_ = f.pending.Cleanup() // nothing to do after the replacement; else the first error counts
	}
}

// sync returns when the file's content is on the disk.
func (f *file) sync() error {
	if f.pending == nil {
		return nil
	}
	if err := errors.Join(f.out.Flush(), f.pending.Sync()); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

// publish finishes all files, then gives them their names.
func publish(ctx context.Context, files []*file, summary Summary) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range files {
		group.Go(func() error {
			if err := f.writer.Finish(summary); err != nil {
				return err
			}
			if err := f.sync(); err != nil {
				return err
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return explain(err)
	}
	for _, f := range files {
		if f.pending == nil {
			continue
		}
		if err := f.pending.CloseAtomicallyReplace(); err != nil {
			return explain(fmt.Errorf("replace %s: %w", f.path, err))
		}
	}
	return nil
}

// explain adds what a user can do about err.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fault.New(fault.NoSpace, "free some space there, or write to another folder", "%w", err)
	}
	return err
}

// named puts the file's name into its writer's errors.
type named struct {
	Writer
	path string
}

func (n *named) WriteBlock(b Block) error {
	if err := n.Writer.WriteBlock(b); err != nil {
		return fmt.Errorf("write %s: %w", n.path, err)
	}
	return nil
}

func (n *named) Finish(s Summary) error {
	if err := n.Writer.Finish(s); err != nil {
		return fmt.Errorf("finish %s: %w", n.path, err)
	}
	return nil
}

// feed pushes src's blocks to the writers: one goroutine finds ranges of data,
// the workers read and encode them, one goroutine puts them in order again, and
// one for each writer writes.
func (c Converter) feed(ctx context.Context, src Source, writers []Writer) (Summary, error) {
	workers := c.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, maxWorkers)
	codecs, codecOf := distinctCodecs(writers)

	parallel, ctx := errgroup.WithContext(ctx)
	p := &pipe{
		src: src, blocks: c.Blocks, codecs: codecs, codecOf: codecOf,
		free: make(chan *group, maxGroups), work: make(chan *group, maxGroups), ordered: make(chan *group, maxGroups),
		out: make([]chan *group, len(writers)),
	}
	for range 2*workers + 2 {
		p.free <- newGroup(len(codecs))
	}
	parallel.Go(func() error { return p.find(ctx) })
	for range workers {
		parallel.Go(func() error { return p.encode(ctx) })
	}
	for i, w := range writers {
		p.out[i] = make(chan *group, maxGroups)
		parallel.Go(func() error { return p.write(ctx, i, w) })
	}
	var summary Summary
	parallel.Go(func() (err error) {
		summary, err = p.order(ctx)
		return err
	})
	return summary, parallel.Wait()
}

// distinctCodecs lists the writers' codecs, each ID once, and says which of
// them each writer has (-1 for none).
func distinctCodecs(writers []Writer) (codecs []Codec, codecOf []int) {
	index := map[string]int{}
	for _, w := range writers {
		codec := w.Codec()
		if codec == nil {
			codecOf = append(codecOf, -1)
			continue
		}
		i, ok := index[codec.ID()]
		if !ok {
			i = len(codecs)
			index[codec.ID()] = i
			codecs = append(codecs, codec)
		}
		codecOf = append(codecOf, i)
	}
	return codecs, codecOf
}

// pipe is one run of feed. A group is in free, or on its way through work and
// ordered to every writer; no channel can fill up, because each has room for
// all groups.
type pipe struct {
	src     Source
	blocks  *blockcache.Cache
	codecs  []Codec
	codecOf []int
	free    chan *group
	work    chan *group
	ordered chan *group
	out     []chan *group
}

// find makes groups of the source's data.
func (p *pipe) find(ctx context.Context) error {
	defer close(p.work)
	defer close(p.ordered)
	size := p.src.Size()
	for offset := int64(0); offset < size; {
		extent, err := p.src.NextData(offset)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find data from byte %d on: %w", offset, err)
		}
		if extent.Offset < offset || extent.Length <= 0 || extent.End() > size {
			return fmt.Errorf("data at byte %d, %d bytes, of a disk of %d: %w", extent.Offset, extent.Length, size, ErrCorrupt)
		}
		start := max(offset, extent.Offset/ChunkSize*ChunkSize)
		end := (extent.End() + ChunkSize - 1) / ChunkSize * ChunkSize
		for ; start < end; start += ChunkSize {
			var g *group
			select {
			case g = <-p.free:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.reset(start, len(p.out))
			p.work <- g
			p.ordered <- g
		}
		offset = end
	}
	return nil
}

// encode is one worker.
func (p *pipe) encode(ctx context.Context) error {
	encoders, err := newEncoders(p.codecs, p.blocks)
	if err != nil {
		return err
	}
	for g := range p.work {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.fill(p.src, encoders); err != nil {
			return err
		}
		close(g.ready)
	}
	return nil
}

// order hands the groups to the writers in the order of the disk.
func (p *pipe) order(ctx context.Context) (Summary, error) {
	defer func() {
		for _, out := range p.out {
			close(out)
		}
	}()
	var summary Summary
	identity := sha256.New()
	for g := range p.ordered {
		select {
		case <-g.ready:
		case <-ctx.Done():
			return Summary{}, ctx.Err()
		}
		for _, b := range g.blocks {
			var id [16]byte
			binary.LittleEndian.PutUint64(id[:], uint64(b.offset))
			binary.LittleEndian.PutUint64(id[8:], b.hash)
			identity.Write(id[:])
			summary.Data += BlockSize
		}
		if len(p.out) == 0 {
			p.free <- g
		}
		for _, out := range p.out {
			out <- g
		}
	}
	identity.Write(binary.LittleEndian.AppendUint64(nil, uint64(p.src.Size())))
	copy(summary.Identity[:], identity.Sum(nil))
	return summary, ctx.Err()
}

// write is one writer.
func (p *pipe) write(ctx context.Context, index int, w Writer) error {
	codec := p.codecOf[index]
	for g := range p.out[index] {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, b := range g.blocks {
			block := Block{Offset: b.offset, Data: b.data, Chunk: g.sum}
			if codec >= 0 {
				block.Encoded = b.encoded[codec]
			}
			if err := w.WriteBlock(block); err != nil {
				return err
			}
		}
		if g.users.Add(-1) == 0 {
			p.free <- g
		}
	}
	return nil
}

var zeros [BlockSize]byte

// isZero reports whether the block has no byte set.
func isZero(block []byte) bool { return bytes.Equal(block, zeros[:len(block)]) }

func hash(block []byte) uint64 { return xxhash.Sum64(block) }
