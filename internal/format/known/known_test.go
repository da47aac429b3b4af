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
	"nodesmith.dev/nodesmith/internal/format/qcow2"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

var record = flag.Bool("record", false, "write the files of testdata instead of comparing with them")

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
	compare(t, "revisions", got.Bytes(), "raise the Revision of the formats that changed")
}

// TestWhoChangesACodecsBytesChangesItsID compares what the codecs make of three
// blocks: a cache keeps that under their IDs.
func TestWhoChangesACodecsBytesChangesItsID(t *testing.T) {
	text := bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\n"), format.BlockSize/40)[:format.BlockSize]
	mixed := make([]byte, format.BlockSize)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range mixed {
		mixed[i] = byte(r.ExpFloat64() * 8)
	}
	random := make([]byte, format.BlockSize)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var got bytes.Buffer
	for _, newWriter := range []func(*format.Output, int64) (format.Writer, error){
		qcow2.Options{Compression: qcow2.Zstd}.New, qcow2.Options{Compression: qcow2.Zlib}.New, vmdk.Options{}.New,
	} {
		file, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		w, err := newWriter(format.NewOutput(file, 0), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		encoder, err := w.Codec().NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.New()
		for _, block := range [][]byte{text, mixed, random} {
			encoded, err := encoder.Encode(nil, block)
			if err != nil {
				t.Fatal(err)
			}
			digest.Write(encoded)
		}
		fmt.Fprintf(&got, "%s %x\n", w.Codec().ID(), digest.Sum(nil))
	}
	compare(t, "codecs", got.Bytes(), "raise the revision in the IDs of the codecs that changed")
}

// compare holds text against a golden file, or records it.
func compare(t *testing.T, name string, got []byte, remedy string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *record {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("recorded; run without -record")
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s(%v): %s, then go test ./internal/format/known -record", got, want, err, remedy)
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
