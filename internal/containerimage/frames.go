//go:build linux

package containerimage

import (
	"errors"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// frameSize is how much of a layer one zstd frame holds, in bytes before
// compression. Frames are compressed independently of each other, so that the
// bytes that come out do not depend on how many cores worked on them; at 4 MiB
// that costs about 1% of size against one frame for all.
const frameSize = 4 << 20

// maxWorkers bounds memory: each worker holds a frame, its output and the
// encoder's tables, about 20 MiB.
const maxWorkers = 8

// frameWriter compresses a stream as a sequence of zstd frames (RFC 8878
// section 3.1: a decoder reads them as one), on all cores, in bounded memory.
// The same stream gives the same bytes on every machine.
type frameWriter struct {
	encoder *zstd.Encoder
	frame   []byte
	// results holds, in stream order, where each frame's output will arrive.
	// Its capacity is the number of frames under way.
	results chan chan []byte
	free    chan []byte
	failed  chan struct{}
	done    chan error
}

// newFrameWriter starts the writer; Close or Abort ends it. w is written to by
// one goroutine, until Close or Abort returned.
func newFrameWriter(w io.Writer) (*frameWriter, error) {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(frameSize),
		zstd.WithEncoderConcurrency(workers))
	if err != nil {
		return nil, err
	}
	f := &frameWriter{
		encoder: enc,
		results: make(chan chan []byte, workers),
		free:    make(chan []byte, workers+2),
		failed:  make(chan struct{}),
		done:    make(chan error, 1),
	}
	go f.drain(w)
	return f, nil
}

// drain writes the frames out in order. After a failed write it only empties
// the queue, so that no compressor is left behind.
func (f *frameWriter) drain(w io.Writer) {
	var failure error
	for result := range f.results {
		out := <-result
		if failure != nil {
			continue
		}
		if _, err := w.Write(out); err != nil {
			failure = err
			close(f.failed)
		}
	}
	f.done <- failure
}

// Write implements io.Writer. After a failed write below it returns an error;
// Close says which.
func (f *frameWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if f.frame == nil {
			f.frame = f.buffer()
		}
		m := min(len(p), frameSize-len(f.frame))
		f.frame = append(f.frame, p[:m]...)
		p = p[m:]
		if len(f.frame) == frameSize {
			if err := f.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// buffer returns an empty buffer of one frame's capacity.
func (f *frameWriter) buffer() []byte {
	select {
	case b := <-f.free:
		return b[:0]
	default:
		return make([]byte, 0, frameSize)
	}
}

// flush hands the current frame to a compressor.
func (f *frameWriter) flush() error {
	select {
	case <-f.failed:
		return errors.New("compressed layer could not be written")
	default:
	}
	frame, result := f.frame, make(chan []byte, 1)
	f.frame = nil
	f.results <- result
	go func() {
		result <- f.encoder.EncodeAll(frame, make([]byte, 0, frameSize/2))
		select {
		case f.free <- frame:
		default:
		}
	}()
	return nil
}

// Close writes what is left and returns the first error of the writer below.
func (f *frameWriter) Close() error {
	var err error
	if len(f.frame) > 0 {
		err = f.flush()
	}
	return errors.Join(f.Abort(), err)
}

// Abort drops what is not compressed yet and waits until the writer below is
// no longer used.
func (f *frameWriter) Abort() error {
	close(f.results)
	return errors.Join(<-f.done, f.encoder.Close())
}
