package format_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const mib = 1 << 20

// noise is a disk that does not get smaller.
func noise(size int64) *formattest.Disk {
	d := formattest.NewDisk(size)
	d.Random(rand.New(rand.NewPCG(1, 1)), 0, size)
	return d
}

// allTargets is one target of every format, and a file of each name that was
// there before.
func allTargets(t *testing.T, dir string) []format.Target {
	t.Helper()
	var targets []format.Target
	for _, name := range known.Names() {
		f, err := known.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		target := format.Target{Path: filepath.Join(dir, "disk"+f.Suffix), New: f.New}
		if err := os.WriteFile(target.Path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		targets = append(targets, target)
	}
	return targets
}

// untouched fails the test unless dir holds what allTargets left there.
func untouched(t *testing.T, dir string, targets []format.Target) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(targets) {
		t.Errorf("the folder has %v", entries)
	}
	for _, target := range targets {
		if content, err := os.ReadFile(target.Path); err != nil || string(content) != "before" {
			t.Errorf("%s: %d bytes, %v", target.Path, len(content), err)
		}
	}
}

// source is a disk whose reads another function sees first.
type source struct {
	format.Source
	before func(offset int64) (int, error)
}

func (s source) ReadAt(p []byte, offset int64) (int, error) {
	if n, err := s.before(offset); err != nil {
		return n, err
	}
	return s.Source.ReadAt(p, offset)
}

func TestNothingIsLeftOfAConversionThatFails(t *testing.T) {
	d := noise(8 * mib)
	broken := errors.New("broken disk")
	for name, test := range map[string]struct {
		want   error
		before func(cancel func()) func(offset int64) (int, error)
	}{
		"a short read": {io.ErrUnexpectedEOF, func(func()) func(int64) (int, error) {
			return func(offset int64) (int, error) {
				if offset >= 5*mib {
					return 100, io.EOF
				}
				return 0, nil
			}
		}},
		"a read error": {broken, func(func()) func(int64) (int, error) {
			return func(offset int64) (int, error) {
				if offset >= 5*mib {
					return 0, broken
				}
				return 0, nil
			}
		}},
		"a cancelled context": {context.Canceled, func(cancel func()) func(int64) (int, error) {
			return func(offset int64) (int, error) {
				if offset >= 5*mib {
					cancel()
				}
				return 0, nil
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			targets := allTargets(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := format.Converter{Workers: 3}.Convert(ctx, source{d, test.before(cancel)}, targets)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			untouched(t, dir, targets)
		})
	}
}

func TestAFullFileSystemIsAFaultThatLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		testenv.Lacks(t, "the permission to mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	targets := allTargets(t, dir)
	_, err := format.Converter{}.Convert(t.Context(), noise(8*mib), targets)
	if !errors.Is(err, syscall.ENOSPC) || fault.KindOf(err) != fault.NoSpace || fault.RemedyOf(err) == "" {
		t.Errorf("error %v of kind %v", err, fault.KindOf(err))
	}
	untouched(t, dir, targets)
}

// failing is a writer that fails at the end.
type failing struct{ format.Writer }

var errFailing = errors.New("can't finish")

func (failing) Finish(format.Summary) error { return errFailing }

func TestOneTargetThatFailsKeepsAllFromAppearing(t *testing.T) {
	dir := t.TempDir()
	targets := allTargets(t, dir)
	last := &targets[len(targets)-1]
	newWriter := last.New
	last.New = func(out *format.Output, size int64) (format.Writer, error) {
		w, err := newWriter(out, size)
		return failing{w}, err
	}
	if _, err := (format.Converter{}).Convert(t.Context(), noise(mib), targets); !errors.Is(err, errFailing) {
		t.Errorf("error %v", err)
	}
	untouched(t, dir, targets)
}

func TestEveryFormatIsMadeOfEveryOther(t *testing.T) {
	d := formattest.NewDisk(3*mib + 512)
	d.Random(rand.New(rand.NewPCG(2, 2)), mib, mib)
	dir := t.TempDir()
	targets := allTargets(t, dir)
	summary, err := format.Converter{}.Convert(t.Context(), d, targets)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Data != mib {
		t.Errorf("%d bytes of data, want %d", summary.Data, mib)
	}
	for _, target := range targets {
		file, err := os.Open(target.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o444 == 0 {
			t.Errorf("%s has mode %v", target.Path, info.Mode())
		}
		f, err := known.Of(file, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(target.Path) != "disk"+f.Suffix {
			t.Errorf("%s looks like %s", target.Path, f.Name)
		}
		src, err := f.Open(file, info.Size())
		if err != nil {
			t.Fatalf("%s: %v", target.Path, err)
		}
		formattest.Equal(t, src, d)
		again := allTargets(t, t.TempDir())
		back, err := format.Converter{Workers: 2}.Convert(t.Context(), src, again)
		if err != nil {
			t.Fatalf("from %s: %v", target.Path, err)
		}
		if src.Size() == d.Size() && back.Identity != summary.Identity {
			t.Errorf("%s: another identity", target.Path)
		}
	}
}

func TestSizesThatNoDiskHasAreRefused(t *testing.T) {
	for _, size := range []int64{-512, 511, format.MaxSize + 512} {
		if _, err := (format.Converter{}).Convert(t.Context(), formattest.NewDisk(size), nil); err == nil {
			t.Errorf("a disk of %d bytes was converted", size)
		}
	}
}

// digests of all targets' files.
func digests(t *testing.T, targets []format.Target) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	for _, target := range targets {
		content, err := os.ReadFile(target.Path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(target.Path)] = sha256.Sum256(content)
	}
	return all
}

// counting is a codec that counts what it encodes.
type counting struct {
	format.Writer
	encoded *atomic.Int64
}

func (c counting) Codec() format.Codec { return countingCodec{c.Writer.Codec(), c.encoded} }

type countingCodec struct {
	format.Codec
	encoded *atomic.Int64
}

func (c countingCodec) NewEncoder() (format.Encoder, error) {
	e, err := c.Codec.NewEncoder()
	return countingEncoder{e, c.encoded}, err
}

type countingEncoder struct {
	format.Encoder
	encoded *atomic.Int64
}

func (e countingEncoder) Encode(dst, block []byte) ([]byte, error) {
	e.encoded.Add(1)
	return e.Encoder.Encode(dst, block)
}

func TestOfAChangedDiskOnlyWhatChangedIsEncoded(t *testing.T) {
	d := formattest.NewDisk(40 * mib)
	d.Random(rand.New(rand.NewPCG(5, 5)), 0, 20*mib)
	d.Put(30*mib, bytes.Repeat([]byte("text "), mib))
	var encoded atomic.Int64
	convert := func(blocks *blockcache.Cache) map[string][32]byte {
		t.Helper()
		targets := allTargets(t, t.TempDir())
		for i, target := range targets {
			targets[i].New = func(out *format.Output, size int64) (format.Writer, error) {
				w, err := target.New(out, size)
				if err != nil || w.Codec() == nil {
					return w, err
				}
				return counting{w, &encoded}, nil
			}
		}
		if _, err := (format.Converter{Blocks: blocks}).Convert(t.Context(), d, targets); err != nil {
			t.Fatal(err)
		}
		return digests(t, targets)
	}
	cached := func(dir string) (map[string][32]byte, int64) {
		t.Helper()
		encoded.Store(0)
		blocks := blockcache.Open(dir, blockcache.DefaultLimit)
		defer blocks.Close()
		return convert(blocks), encoded.Load()
	}
	dir := t.TempDir()
	want := convert(nil)
	if got, n := cached(dir); !maps.Equal(got, want) || n == 0 {
		t.Errorf("with an empty cache: %d blocks encoded, the same files: %v", n, maps.Equal(got, want))
	}
	if got, n := cached(dir); !maps.Equal(got, want) || n != 0 {
		t.Errorf("with a full cache: %d blocks encoded, the same files: %v", n, maps.Equal(got, want))
	}
	d.Put(5*mib, []byte("changed"))
	want = convert(nil)
	if got, n := cached(dir); !maps.Equal(got, want) || n != 2*format.ChunkSize/format.BlockSize {
		t.Errorf("with one block changed: %d blocks encoded, want those of its chunk for each of two codecs; the same files: %v", n, maps.Equal(got, want))
	}
}
