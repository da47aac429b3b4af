package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// recording is a pipeline that does nothing but tell what it does.
func recording() *Pipeline { return &Pipeline{record: progress.NewRecorder(progress.Options{})} }

func TestADigestIsKeptWithTheContentThatItIsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.raw")
	write := func(text string) digest.Digest {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return digest.FromString(text)
	}
	check := func(what string, want digest.Digest) {
		t.Helper()
		got, err := recording().Digests(t.Context(), []Artifact{{Path: path}})
		if err != nil || got[0] != want {
			t.Errorf("%s: %v, %v; want %s", what, got, err, want)
		}
	}
	first := write("first")
	check("a new file", first)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(path, digestAttribute, make([]byte, 256)); errors.Is(err, unix.ENOTSUP) {
		testenv.Lacks(t, "a file system with extended attributes")
	}
	// Of the same size and time: only a note can answer with the old digest.
	write("other")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	check("a file that looks unchanged", first)
	if err := os.Chtimes(path, time.Now(), info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	check("a file with another time", digest.FromString("other"))
	check("a longer file", write("longer than before"))
}

func TestADigestEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.raw")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := recording().Digests(ctx, []Artifact{{Path: path}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
