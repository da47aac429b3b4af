package vhd_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/vhd"
)

var viewOptions = vhd.Options{ID: [16]byte{1, 2, 3, 4, 5, 6, 0x80, 8, 0x80}, Created: time.Unix(1790000000, 0)}

func TestAViewIsTheFileThatTheWriterMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for name, size := range map[string]int64{
		"nothing": 0, "a sector": 512, "whole MiB": 8 * mib, "a sector more": 8*mib + 512, "a sector less": 8*mib - 512,
	} {
		t.Run(name, func(t *testing.T) {
			disk := formattest.NewDisk(size)
			disk.Random(r, 0, min(size, 70_000))
			disk.Random(r, max(0, size-513), min(size, 513))
			path := filepath.Join(t.TempDir(), "written.vhd")
			written := format.Target{Path: path, New: func(out *format.Output, size int64) (format.Writer, error) {
				return vhd.NewFixed(out, size, viewOptions)
			}}
			if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{written}); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			view, err := vhd.NewView(disk, viewOptions)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(io.NewSectionReader(view, 0, view.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of a view and %d of the writer differ (error %v)", len(got), len(want), err)
			}
			for range 200 { // any range reads as the whole does
				from := r.Int64N(view.Size())
				p := make([]byte, 1+r.Int64N(view.Size()-from))
				if n, err := view.ReadAt(p, from); n != len(p) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p, want[from:from+int64(n)]) {
					t.Fatalf("read %d of %d bytes at %d: error %v", n, len(p), from, err)
				}
			}
			sparse := make([]byte, view.Size())
			for offset := int64(0); ; {
				extent, err := view.NextData(offset)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || extent.Offset < offset || extent.Length <= 0 {
					t.Fatalf("behind %d is %+v: %v", offset, extent, err)
				}
				if _, err := view.ReadAt(sparse[extent.Offset:extent.End()], extent.Offset); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				offset = extent.End()
			}
			if !bytes.Equal(sparse, want) {
				t.Error("the ranges that hold data lack some")
			}
		})
	}
}

func TestAViewIsRefused(t *testing.T) {
	for name, make := range map[string]func() (*vhd.View, error){
		"without an ID": func() (*vhd.View, error) { return vhd.NewView(formattest.NewDisk(mib), vhd.Options{}) },
		"of more than the format has room for": func() (*vhd.View, error) {
			return vhd.NewView(formattest.NewDisk(vhd.MaxSize+512), viewOptions)
		},
		"from before its times begin": func() (*vhd.View, error) {
			return vhd.NewView(formattest.NewDisk(mib), vhd.Options{ID: [16]byte{1}, Created: time.Unix(1, 0)})
		},
	} {
		if _, err := make(); err == nil {
			t.Errorf("a view %s was made", name)
		}
	}
}

func TestAViewReportsAShortDisk(t *testing.T) {
	view, err := vhd.NewView(shortDisk{formattest.NewDisk(mib)}, viewOptions)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := view.ReadAt(make([]byte, 4096), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes of a disk that ends at once: %v", n, err)
	}
}

type shortDisk struct{ format.Source }

func (shortDisk) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
