package formattest

import (
	"bytes"
	_ "embed"
	"os"
	"path/filepath"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
)

// Stored are the files that match a pattern, by path: images that others wrote.
func Stored(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no images match %s (%v)", pattern, err)
	}
	all := map[string][]byte{}
	for _, path := range found {
		if all[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// storedDisk is what stored images are images of.
//
//go:embed testdata/disk.raw
var storedDisk []byte

// ReadsStored fails the test unless each file that matches the pattern is an
// image of testdata/disk.raw of this package.
func ReadsStored(t *testing.T, f format.Format, pattern string) {
	want := NewDisk(int64(len(storedDisk)))
	want.Put(0, storedDisk)
	for path, image := range Stored(t, pattern) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			got, err := f.Open(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatal(err)
			}
			Equal(t, got, want)
		})
	}
}
