package azure

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // it guards a transfer, as Put Page wants it, and nothing else
	"errors"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/publish"
)

// The sizes of a page blob, in bytes.
const (
	pageSize = 512
	// window is how much is read at once, and the most that a Put Page takes.
	window = 4 << 20
	// mergeGap is the longest run of zero pages that is sent along with what lies
	// around it: a request more takes longer.
	mergeGap = 64 << 10
)

// defaultParallel is how many windows are under way at once: 16 hide the delay
// of a link of 1 Gbit/s and 500 ms, and hold 64 MiB.
const defaultParallel = 16

// transfer sends the pages of a file that are not empty to a page blob of the
// file's size, which holds nothing yet but what an earlier transfer of the same
// file sent. It holds parallel+2 windows in memory.
type transfer struct {
	file     format.Source
	blob     *pageblob.Client
	parallel int
	// resume says that what the service has is of this file: it is not sent again.
	resume bool
	retry  func(context.Context, func(context.Context) error) error
	// sent is told how many bytes more are there; arrived, now and then, that all
	// before offset is.
	sent    func(n int64)
	arrived func(offset int64) error
}

// run sends what is not there yet, and then asks the service what it has.
func (t *transfer) run(ctx context.Context) error {
	var there ranges
	if t.resume {
		var err error
		if there, err = t.stored(ctx); err != nil {
			return err
		}
	}
	wanted, err := t.send(ctx, there)
	if err != nil {
		return err
	}
	return t.check(ctx, wanted)
}

// piece is a window that is to be sent, or what of it is.
type piece struct {
	data []byte // as long as a window
	at   int64  // of data in the file
	runs []format.Extent
	mark *mark
}

// send reads the file once and sends what there lacks. It returns what the blob
// holds then.
func (t *transfer) send(ctx context.Context, there ranges) (wanted ranges, err error) {
	group, ctx := errgroup.WithContext(ctx)
	parallel := t.parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	free := make(chan []byte, parallel+2)
	for range cap(free) {
		free <- nil // made when it is first used
	}
	pieces := make(chan piece)
	water := newWaterline(t.arrived)
	group.Go(func() error {
		defer close(pieces)
		var err error
		wanted, err = t.read(ctx, there, free, water, pieces)
		return err
	})
	for range parallel {
		group.Go(func() error {
			for p := range pieces {
				for _, run := range p.runs {
					if err := t.put(ctx, p.data[run.Offset-p.at:run.End()-p.at], run.Offset); err != nil {
						return err
					}
				}
				free <- p.data
				if err := water.done(p.mark); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return wanted, group.Wait()
}

// read cuts the file into pieces. Windows that are there as a whole, or that
// hold nothing, are not read.
func (t *transfer) read(ctx context.Context, there ranges, free chan []byte, water *waterline, pieces chan<- piece) (wanted ranges, err error) {
	for offset := int64(0); ; {
		extent, err := t.file.NextData(offset)
		if errors.Is(err, io.EOF) {
			return wanted, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for data behind byte %d: %w", offset, err)
		}
		at := extent.Offset / window * window
		part := format.Extent{Offset: at, Length: min(window, t.file.Size()-at)}
		offset = part.End()
		if there.cover(part) {
			wanted = wanted.add(part)
			continue
		}
		var data []byte
		select {
		case data = <-free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if data == nil {
			data = make([]byte, window)
		}
		if err := format.ReadFull(t.file, t.file.Size(), data[:part.Length], at); err != nil {
			return nil, fmt.Errorf("read the disk: %w", err)
		}
		p := piece{data: data, at: at}
		for _, run := range occupied(data[:part.Length], at) {
			wanted = wanted.add(run)
			if !there.cover(run) {
				p.runs = append(p.runs, run)
			}
		}
		if len(p.runs) == 0 {
			free <- data
			continue
		}
		p.mark = water.begin(part.End())
		select {
		case pieces <- p:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// put sends one run of pages. The service compares the body with its MD5 before
// it writes anything.
func (t *transfer) put(ctx context.Context, data []byte, offset int64) error {
	sum := md5.Sum(data) //nolint:gosec // see the import
	err := t.retry(ctx, func(ctx context.Context) error {
		body := streaming.NopCloser(bytes.NewReader(data))
		_, err := t.blob.UploadPages(ctx, body, blob.HTTPRange{Offset: offset, Count: int64(len(data))},
			&pageblob.UploadPagesOptions{TransactionalValidation: blob.TransferValidationTypeMD5(sum[:])})
		return err
	})
	if err != nil {
		return fmt.Errorf("send %d bytes at byte %d: %w", len(data), offset, err)
	}
	t.sent(int64(len(data)))
	return nil
}

// stored asks the service which pages it has.
func (t *transfer) stored(ctx context.Context) (there ranges, err error) {
	err = t.retry(ctx, func(ctx context.Context) error {
		there = nil
		pager := t.blob.NewGetPageRangesPager(nil)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, r := range page.PageRange {
				if r == nil || r.Start == nil || r.End == nil {
					return errors.New("the service names a range of pages without its begin or end")
				}
				there = there.add(format.Extent{Offset: *r.Start, Length: *r.End - *r.Start + 1})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask which pages are there: %w", err)
	}
	return there, nil
}

// check compares what the service has with what was sent, and clears pages that
// are none of the file's.
func (t *transfer) check(ctx context.Context, wanted ranges) error {
	there, err := t.stored(ctx)
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if !there.cover(w) {
			return publish.Temporary(fault.New(fault.Network, "run the same command again: what is missing is sent again",
				"the service lacks pages within the %d bytes at byte %d although it took them", w.Length, w.Offset))
		}
	}
	for _, foreign := range there.without(wanted) {
		err := t.retry(ctx, func(ctx context.Context) error {
			_, err := t.blob.ClearPages(ctx, blob.HTTPRange{Offset: foreign.Offset, Count: foreign.Length}, nil)
			return err
		})
		if err != nil {
			return fmt.Errorf("clear %d bytes at byte %d, which are not of this disk: %w", foreign.Length, foreign.Offset, err)
		}
	}
	return nil
}

var zeros [pageSize]byte

// occupied returns the runs of pages in data, which lies at byte at of the file,
// that are not empty; gaps up to mergeGap belong to them.
func occupied(data []byte, at int64) (runs []format.Extent) {
	for from := 0; from < len(data); from += pageSize {
		if page := data[from:min(from+pageSize, len(data))]; bytes.Equal(page, zeros[:len(page)]) {
			continue
		}
		page := format.Extent{Offset: at + int64(from), Length: pageSize}
		if last := len(runs) - 1; last >= 0 && page.Offset-runs[last].End() <= mergeGap {
			runs[last].Length = page.End() - runs[last].Offset
			continue
		}
		runs = append(runs, page)
	}
	return runs
}

// eachExtent calls do with the length of each range of a file that may hold
// something.
func eachExtent(file format.Source, do func(length int64)) error {
	for offset := int64(0); ; {
		extent, err := file.NextData(offset)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for data behind byte %d: %w", offset, err)
		}
		do(extent.Length)
		offset = extent.End()
	}
}
