package known_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/known"
)

var record = flag.Bool("record", false, "write testdata/revisions instead of comparing with it")

// TestWhoChangesAFormatsBytesRaisesItsRevision compares with the digests of what
// the writers made of one disk when their revisions were set.
func TestWhoChangesAFormatsBytesRaisesItsRevision(t *testing.T) {
	disk := formattest.NewDisk(200 << 20)
	disk.Put(1<<20, bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\n"), 1<<14))
	disk.Random(rand.New(rand.NewPCG(1, 2)), 150<<20+300, 1<<20)
	var got bytes.Buffer
	for _, name := range known.Names() {
		f, err := known.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "disk"+f.Suffix)
		if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Path: path, New: f.New}}); err != nil {
			t.Fatal(err)
		}
		digest, err := digestOf(path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %d %x\n", name, f.Revision, digest)
	}
	golden := filepath.Join("testdata", "revisions")
	if *record {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("recorded; run without -record")
	}
	want, err := os.ReadFile(golden)
	if err != nil || got.String() != string(want) {
		t.Errorf("the writers make\n%swant\n%s(%v): raise the Revision of what changed, then go test ./internal/format/known -record", got.String(), want, err)
	}
}

func digestOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	digest := sha256.New()
	_, err = file.WriteTo(digest)
	return digest.Sum(nil), err
}

func TestAnUnpackedImageIsItsDiskAndGoesWithIt(t *testing.T) {
	disk := formattest.NewDisk(1 << 30)
	disk.Random(rand.New(rand.NewPCG(3, 4)), 5<<20, 1<<20)
	gce, err := known.Named("gce")
	if err != nil {
		t.Fatal(err)
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	image, err := known.OpenFile(formattest.Suite{Format: gce}.Convert(t, disk, 2), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = image.Close() }()
	unpacked, err := image.Unpack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	formattest.Equal(t, unpacked, disk)
	if unpacked.Format.Name != "raw" || unpacked.Format.Sequential {
		t.Errorf("unpacked to %s", unpacked.Format.Name)
	}
	if err := unpacked.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "nodesmith-*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}
