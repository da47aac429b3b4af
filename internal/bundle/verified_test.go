package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// A blob that was damaged since it was written is found before anything is made
// of it, and the next build has it anew.
func TestADamagedBlobIsRemovedAndWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	files := []File{{Name: "a", Mode: 0o644, Data: []byte(strings.Repeat("nodesmith", 1000))}}
	list := func() ([]File, error) { return files, nil }
	open := func() *Store {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lazy(t.Context(), "a", Source{Key: "key", Files: list}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	read := func(s *Store, d ocispecs.Descriptor) error {
		r, err := s.Blobs.ReaderAt(t.Context(), d)
		if err != nil {
			return err
		}
		return r.Close()
	}
	first := open()
	var largest content.Info
	if err := first.Blobs.Walk(t.Context(), func(i content.Info) error {
		if i.Size > largest.Size {
			largest = i
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	layer := ocispecs.Descriptor{Digest: largest.Digest, Size: largest.Size}
	if err := read(first, layer); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", "sha256", layer.Digest.Encoded())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := read(open(), layer); err == nil || !strings.Contains(err.Error(), "was damaged") {
		t.Errorf("a damaged blob was read: %v", err)
	}
	if err := read(open(), layer); err != nil {
		t.Errorf("after that: %v", err)
	}
}
