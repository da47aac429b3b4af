package formattest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
)

// What a hostile image may take before it is refused.
const (
	maxHostileMemory = 256 << 20
	maxHostileTime   = 30 * time.Second
)

// Refuses wants that the image is refused, when it is opened or when it is read
// from end to end, with an error that has one of the causes in its chain, in
// bounded memory and time.
func Refuses(t *testing.T, f format.Format, image []byte, causes ...error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxHostileTime)
	defer cancel()
	var err error
	taken := Allocated(func() {
		var src format.Source
		if src, err = f.Open(bytes.NewReader(image), int64(len(image))); err == nil {
			_, err = format.Converter{Workers: 2}.Convert(ctx, src, nil)
		}
	})
	t.Logf("%d MiB, %v", taken>>20, err)
	if taken > maxHostileMemory {
		t.Errorf("asked for %d MiB of memory", taken>>20)
	}
	for _, cause := range causes {
		if errors.Is(err, cause) {
			return
		}
	}
	t.Errorf("error %v, want one of %v", err, causes)
}

// Fuzz lets Go's fuzzer look for images that make the reader panic or hang.
func Fuzz(f *testing.F, under format.Format, seeds ...[]byte) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, image []byte) { Walk(under, image) })
}
