package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/format"
)

const (
	// BlockSize is the unit in which an image's disk is kept and sent: 512 KiB.
	BlockSize = 512 << 10
	// pageSize is the unit in which differences are told apart within a block.
	pageSize     = 4 << 10
	pagesInBlock = BlockSize / pageSize
	// maxDiffering bounds the blocks whose pages are remembered: 128 GiB of
	// differences. With more, all content is read and compared.
	maxDiffering = 1 << 18
)

// Blocks says how many blocks of the disks differ and what lies in them.
type Blocks struct {
	BlockSize int64 `json:"blockSize"`
	Differing int64 `json:"differing"`
	// PageSize is the unit of DifferingPages: the part of the blocks that differs.
	PageSize       int64 `json:"pageSize"`
	DifferingPages int64 `json:"differingPages"`
	// ChangedBytes is S: the bytes of all regular files whose content was added,
	// removed or changed, each rounded up to 4 KiB; of a changed file the larger
	// one counts. Bound is how many blocks may differ for that.
	ChangedBytes int64   `json:"changedBytes"`
	Bound        int64   `json:"bound"`
	Classes      []Class `json:"classes,omitempty"`
}

// Bound is the number of blocks in which an old and a new disk may differ when
// changed bytes of files do: ceil(1.2 x changed / 512 KiB) + 24.
func Bound(changed int64) int64 {
	const spare = 24
	return (changed*6+5*BlockSize-1)/(5*BlockSize) + spare
}

// mask has a bit for each page of a block that differs.
type mask [pagesInBlock / 64]uint64

func (m mask) has(page int64) bool { return m[page/64]&(1<<(page%64)) != 0 }

// pages is where two disks differ.
type pages struct {
	count  int // of blocks
	pages  int
	blocks map[int64]mask // by the block's number
}

// touches reports whether any page of a range of the disk differs.
func (p *pages) touches(offset, length int64) bool {
	if p.count > maxDiffering {
		return true
	}
	for at := offset / pageSize; at*pageSize < offset+length; {
		m, ok := p.blocks[at/pagesInBlock]
		if !ok {
			at = (at/pagesInBlock + 1) * pagesInBlock
			continue
		}
		if m.has(at % pagesInBlock) {
			return true
		}
		at++
	}
	return false
}

// comparePages reads both disks and finds where they differ. Where one disk
// ends, zeros count.
func comparePages(ctx context.Context, a, b Disk) (*pages, error) {
	p := &pages{blocks: map[int64]mask{}}
	var mu sync.Mutex
	numbers := make(chan int64)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(numbers)
		return dataBlocks(ctx, a, b, numbers)
	})
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			left, right := make([]byte, BlockSize), make([]byte, BlockSize)
			for number := range numbers {
				m, differs, err := compareBlock(a, b, number, left, right)
				if err != nil {
					return err
				}
				if differs == 0 {
					continue
				}
				mu.Lock()
				p.count++
				p.pages += differs
				if p.count <= maxDiffering {
					p.blocks[number] = m
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return p, group.Wait()
}

// dataBlocks sends the numbers of all blocks that may hold data on either disk.
func dataBlocks(ctx context.Context, a, b format.Source, numbers chan<- int64) error {
	next := func(s format.Source, offset int64) (format.Extent, error) {
		if offset >= s.Size() {
			return format.Extent{Offset: format.MaxSize + BlockSize}, nil
		}
		e, err := s.NextData(offset)
		if errors.Is(err, io.EOF) {
			return format.Extent{Offset: format.MaxSize + BlockSize}, nil
		}
		return e, err
	}
	var ea, eb format.Extent
	for number := int64(0); ; number++ {
		var err error
		if ea.End() <= number*BlockSize {
			if ea, err = next(a, number*BlockSize); err != nil {
				return err
			}
		}
		if eb.End() <= number*BlockSize {
			if eb, err = next(b, number*BlockSize); err != nil {
				return err
			}
		}
		first := min(ea.Offset, eb.Offset)
		if first > format.MaxSize {
			return nil
		}
		number = max(number, first/BlockSize)
		select {
		case numbers <- number:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compareBlock compares one block, page by page.
func compareBlock(a, b Disk, number int64, left, right []byte) (m mask, differs int, err error) {
	for _, side := range []struct {
		disk   Disk
		buffer []byte
	}{{a, left}, {b, right}} {
		at := number * BlockSize
		have := min(max(side.disk.Size()-at, 0), BlockSize)
		clear(side.buffer[have:])
		if n, err := side.disk.ReadAt(side.buffer[:have], at); err != nil && (int64(n) < have || !errors.Is(err, io.EOF)) {
			return m, 0, fmt.Errorf("read %s at %d: %w", side.disk.Name, at, err)
		}
	}
	if bytes.Equal(left, right) {
		return m, 0, nil
	}
	for page := range int64(pagesInBlock) {
		at := page * pageSize
		if !bytes.Equal(left[at:at+pageSize], right[at:at+pageSize]) {
			m[page/64] |= 1 << (page % 64)
			differs++
		}
	}
	return m, differs, nil
}
