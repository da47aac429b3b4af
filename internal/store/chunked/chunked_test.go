package chunked_test

import (
	"bytes"
	_ "crypto/sha512" // a digest that the store does not take
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
	"nodesmith.dev/nodesmith/internal/store/blob"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

const mib = 1 << 20

func folder(t testing.TB) (*blob.Folder, string) {
	t.Helper()
	dir := t.TempDir()
	blobs, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return blobs, dir
}

// write puts a disk into the folder in one pass of a conversion.
func write(t testing.TB, blobs *blob.Folder, disk format.Source, known chunked.Known) chunked.Table {
	t.Helper()
	w, err := chunked.NewWriter(t.Context(), blobs, disk.Size(), known)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Path: "the store", Sink: w}}); err != nil {
		t.Fatal(err)
	}
	return w.Table()
}

func open(t testing.TB, blobs *blob.Folder, table chunked.Table) *chunked.Disk {
	t.Helper()
	disk, err := chunked.Open(blobs, table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return disk
}

// sparse is a disk with data at random places.
func sparse(r *rand.Rand) *formattest.Disk {
	size := (1 + r.Int64N(60*mib/format.SectorSize)) * format.SectorSize
	disk := formattest.NewDisk(size)
	for range r.IntN(8) {
		disk.Random(r, r.Int64N(size), 1+r.Int64N(mib/2))
	}
	disk.Put(r.Int64N(size), bytes.Repeat([]byte("text "), 1<<16))
	return disk
}

func TestADiskComesBackAsItWas(t *testing.T) {
	for seed := range uint64(8) {
		disk := sparse(rand.New(rand.NewPCG(seed, 1)))
		blobs, _ := folder(t)
		table := write(t, blobs, disk, nil)
		if err := table.Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		formattest.Equal(t, open(t, blobs, table), disk)
	}
}

// A conversion that has a cache takes the chunks' sums for it: the store takes them
// over, and a disk in the store tells its own.
func TestTheSumsOfAConversionAreThoseOfTheChunks(t *testing.T) {
	disk := sparse(rand.New(rand.NewPCG(3, 3)))
	cache := filepath.Join(t.TempDir(), "blocks")
	convert := func(src format.Source, further ...format.Target) (qcow []byte) {
		t.Helper()
		blocks := blockcache.Open(cache, blockcache.DefaultLimit)
		defer blocks.Close()
		path := filepath.Join(t.TempDir(), "disk.qcow2")
		targets := append(further, format.Target{Path: path, New: qcow2.Format.New})
		if _, err := (format.Converter{Blocks: blocks}).Convert(t.Context(), src, targets); err != nil {
			t.Fatal(err)
		}
		qcow, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return qcow
	}
	blobs, _ := folder(t)
	w, err := chunked.NewWriter(t.Context(), blobs, disk.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	made := convert(disk, format.Target{Path: "the store", Sink: w})
	other, _ := folder(t)
	if got, want := w.Table(), write(t, other, disk, nil); got.Digest() != want.Digest() {
		t.Errorf("the table of a conversion with a cache is %v, without %v", got, want)
	}
	stored := open(t, blobs, w.Table())
	for i, c := range w.Table().Chunks {
		sum, known := stored.ChunkSum(c.Index * format.ChunkSize)
		if got := digest.NewDigestFromBytes(digest.SHA256, sum[:]); !known || got != c.Sum {
			t.Errorf("chunk %d: %s, %v; want %s", i, got, known, c.Sum)
		}
		if _, known := stored.ChunkSum(c.Index*format.ChunkSize + 1); known {
			t.Error("the sum of what is no chunk is known")
		}
	}
	if !bytes.Equal(convert(stored), made) {
		t.Error("the file made of the stored disk is another")
	}
}

func TestZerosTakeNothing(t *testing.T) {
	blobs, _ := folder(t)
	disk := formattest.NewDisk(20 << 30)
	if table := write(t, blobs, disk, nil); len(table.Chunks) != 0 || !table.Whole(blobs) {
		t.Errorf("an empty disk has %d chunks", len(table.Chunks))
	}
	disk.Put(7<<30, make([]byte, mib)) // zeros that are written
	disk.Put(20<<30-1, []byte{1})
	table := write(t, blobs, disk, nil)
	if len(table.Chunks) != 1 || table.Chunks[0].Index != (20<<30)/chunked.MinChunk-1 {
		t.Errorf("chunks %+v", table.Chunks)
	}
}

func TestTheDigestFollowsTheContentAlone(t *testing.T) {
	disk := sparse(rand.New(rand.NewPCG(4, 2)))
	blobs, _ := folder(t)
	first := write(t, blobs, disk, nil)
	raw, err := os.Open(disk.File(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	again, _ := folder(t)
	whole := write(t, again, allData{disk}, nil)
	if first.Digest() != whole.Digest() {
		t.Error("where holes are said to be changes the digest")
	}
	disk.Put(disk.Size()/2, []byte("changed"))
	if write(t, again, disk, nil).Digest() == first.Digest() {
		t.Error("a changed disk has the same digest")
	}
	longer := first
	longer.Size += format.SectorSize
	if longer.Digest() == first.Digest() {
		t.Error("a longer disk has the same digest")
	}
}

// allData is a source that does not know its holes.
type allData struct{ *formattest.Disk }

func (d allData) NextData(offset int64) (format.Extent, error) {
	return format.Extent{Offset: offset, Length: d.Size() - offset}, nil
}

func TestOnlyChangedChunksAreNew(t *testing.T) {
	disk := formattest.NewDisk(16 * mib)
	disk.Random(rand.New(rand.NewPCG(1, 1)), 0, 16*mib)
	blobs, dir := folder(t)
	before := write(t, blobs, disk, nil)
	files := count(t, dir)
	disk.Put(9*mib+1000, []byte("changed"))
	known := chunked.Known{}
	known.Add(before)
	after := write(t, blobs, disk, known)
	if more := count(t, dir) - files; more != 1 {
		t.Errorf("one changed chunk made %d blobs", more)
	}
	formattest.Equal(t, open(t, blobs, after), disk)
}

func TestAKnownChunkWhoseBlobIsGoneIsWrittenAgain(t *testing.T) {
	disk := formattest.NewDisk(4 * mib)
	disk.Random(rand.New(rand.NewPCG(1, 1)), 0, 4*mib)
	blobs, _ := folder(t)
	before := write(t, blobs, disk, nil)
	if err := blobs.Remove(before.Chunks[2].Blob); err != nil {
		t.Fatal(err)
	}
	if before.Whole(blobs) {
		t.Error("a disk with a missing chunk is said to be whole")
	}
	known := chunked.Known{}
	known.Add(before)
	formattest.Equal(t, open(t, blobs, write(t, blobs, disk, known)), disk)
}

func count(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestALargeDiskHasLargerChunks(t *testing.T) {
	// 40 of 80 chunks are not zero: too many of 512 KiB, as each of 1 MiB has one.
	disk := formattest.NewDisk(80*chunked.MinChunk - format.SectorSize)
	for i := int64(0); i < 80; i += 2 {
		disk.Put(i*chunked.MinChunk+i*100, []byte(digest.FromString(string(rune(i)))))
	}
	w, blobs := writerOf(t, disk.Size())
	w.Limit(20)
	if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Sink: w}}); err != nil {
		t.Fatal(err)
	}
	table := w.Table()
	if table.ChunkSize != 4*chunked.MinChunk || len(table.Chunks) != 20 {
		t.Fatalf("%d chunks of %d bytes", len(table.Chunks), table.ChunkSize)
	}
	formattest.Equal(t, open(t, blobs, table), disk)
}

func writerOf(t *testing.T, size int64) (*chunked.Writer, *blob.Folder) {
	t.Helper()
	blobs, _ := folder(t)
	w, err := chunked.NewWriter(t.Context(), blobs, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, blobs
}

func TestDamagedChunksAreFoundNamedAndRemoved(t *testing.T) {
	disk := formattest.NewDisk(4 * mib)
	disk.Random(rand.New(rand.NewPCG(1, 1)), 0, 4*mib)
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 1000) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"gone":      os.Remove,
		"one bit": func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content[len(content)/2] ^= 4
			return os.WriteFile(path, content, 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			blobs, dir := folder(t)
			table := write(t, blobs, disk, nil)
			path := filepath.Join(dir, "blobs", "sha256", table.Chunks[3].Blob.Encoded())
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			read := open(t, blobs, table)
			_, err := read.ReadAt(make([]byte, 10), 3*chunked.MinChunk)
			if !errors.Is(err, blob.ErrDamaged) || !bytes.Contains([]byte(err.Error()), []byte(table.Chunks[3].Blob)) {
				t.Errorf("error %v", err)
			}
			if _, err := read.ReadAt(make([]byte, 10), 0); err != nil {
				t.Errorf("another chunk: %v", err)
			}
			known := chunked.Known{}
			known.Add(table)
			formattest.Equal(t, open(t, blobs, write(t, blobs, disk, known)), disk)
		})
	}
}

func TestATableThatLiesIsRefusedAndItsBlobsStay(t *testing.T) {
	disk := formattest.NewDisk(4 * mib)
	disk.Random(rand.New(rand.NewPCG(1, 1)), 0, 4*mib)
	blobs, _ := folder(t)
	table := write(t, blobs, disk, nil)
	swapped := table
	swapped.Chunks = append([]chunked.Chunk{}, table.Chunks...)
	swapped.Chunks[0].Blob, swapped.Chunks[0].Size = table.Chunks[1].Blob, table.Chunks[1].Size
	if _, err := open(t, blobs, swapped).ReadAt(make([]byte, 10), 0); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("another chunk's blob: %v", err)
	}
	if !table.Whole(blobs) {
		t.Error("a blob that is in order was removed")
	}
	for name, change := range map[string]func(t *chunked.Table){
		"no size":                   func(t *chunked.Table) { t.Size = 0 },
		"a huge size":               func(t *chunked.Table) { t.Size = format.MaxSize + format.SectorSize },
		"half a sector":             func(t *chunked.Table) { t.Size += 100 },
		"tiny chunks":               func(t *chunked.Table) { t.ChunkSize = 512 },
		"huge chunks":               func(t *chunked.Table) { t.ChunkSize = 1 << 40 },
		"odd chunks":                func(t *chunked.Table) { t.ChunkSize += 4096 },
		"a chunk behind the end":    func(t *chunked.Table) { t.Chunks[7].Index = 8 },
		"a negative chunk":          func(t *chunked.Table) { t.Chunks[0].Index = -1 },
		"a chunk twice":             func(t *chunked.Table) { t.Chunks[1].Index = 0 },
		"a blob of no size":         func(t *chunked.Table) { t.Chunks[1].Size = 0 },
		"a blob larger than chunks": func(t *chunked.Table) { t.Chunks[1].Size = 1 << 40 },
		"a digest that is a path":   func(t *chunked.Table) { t.Chunks[1].Blob = "sha256:../../../etc/passwd" },
		"a digest of another kind":  func(t *chunked.Table) { t.Chunks[1].Sum = digest.SHA512.FromString("x") },
	} {
		t.Run(name, func(t *testing.T) {
			hostile := table
			hostile.Chunks = append([]chunked.Chunk{}, table.Chunks...)
			change(&hostile)
			if _, err := chunked.Open(blobs, hostile); !errors.Is(err, format.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestTheSameChunkHasTheSameBlob holds what a chunk of text becomes: who changes
// the compressor makes all images of before share nothing with those of after.
func TestTheSameChunkHasTheSameBlob(t *testing.T) {
	blobs, _ := folder(t)
	disk := formattest.NewDisk(mib)
	disk.Put(0, bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\n"), 1<<13))
	table := write(t, blobs, disk, nil)
	const (
		content = "sha256:e4ccf297962b67c67ffdcc326cfdb20c272904e37e2fd29b2adaa637aec92793"
		stored  = "sha256:3d6b85c1bd01fdecb739b6edc346d736a784ce514e6814106c3cde23420dc88a"
	)
	if table.Digest() != content || table.Chunks[0].Blob != stored {
		t.Errorf("the disk is %s, its first chunk %s", table.Digest(), table.Chunks[0].Blob)
	}
}
