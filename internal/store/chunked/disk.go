package chunked

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/store/blob"
)

// cacheBytes is about what a Disk keeps of decompressed chunks.
const cacheBytes = 16 << 20

// Disk is a Table's disk, open to be read. Its methods may be called by several
// goroutines at once.
type Disk struct {
	table   Table
	blobs   *blob.Folder
	decoder *zstd.Decoder
	chunks  format.Cache[[]byte]
}

// Open opens the disk of a table. Close gives its memory back.
func Open(blobs *blob.Folder, table Table) (*Disk, error) {
	if err := table.Check(); err != nil {
		return nil, err
	}
	return open(blobs, table)
}

func open(blobs *blob.Folder, table Table) (*Disk, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(uint64(table.ChunkSize)), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	// Two for each reader of a conversion: the one that it reads, and the next.
	limit := max(int(cacheBytes/table.ChunkSize), 2*runtime.GOMAXPROCS(0))
	return &Disk{table: table, blobs: blobs, decoder: decoder, chunks: format.Cache[[]byte]{Limit: limit}}, nil
}

// Close ends the use of the disk.
func (d *Disk) Close() error {
	d.decoder.Close()
	return nil
}

// Size is the disk's size in bytes.
func (d *Disk) Size() int64 { return d.table.Size }

// NextData returns the next run of chunks.
func (d *Disk) NextData(offset int64) (format.Extent, error) {
	i, _ := d.find(offset / d.table.ChunkSize)
	if offset >= d.table.Size || i == len(d.table.Chunks) {
		return format.Extent{}, io.EOF
	}
	extent := d.table.extent(i)
	start := max(offset, extent.Offset)
	return format.Extent{Offset: start, Length: extent.End() - start}, nil
}

// find returns the place of the chunk of that index in the table, or where it
// would be.
func (d *Disk) find(index int64) (int, bool) {
	return slices.BinarySearchFunc(d.table.Chunks, index, func(c Chunk, i int64) int { return cmp.Compare(c.Index, i) })
}

// ReadAt follows io.ReaderAt.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	return format.ReadPieces(p, offset, d.table.Size, d.table.ChunkSize, func(dst []byte, start, skip int64) error {
		i, found := d.find(start / d.table.ChunkSize)
		if !found {
			clear(dst)
			return nil
		}
		chunk, err := d.chunks.Get(int64(i), func() ([]byte, error) { return d.load(d.table.Chunks[i]) })
		if err != nil {
			return err
		}
		copy(dst, chunk[skip:])
		return nil
	})
}

// ChunkSum returns the sum of a chunk, which load holds its content to.
func (d *Disk) ChunkSum(offset int64) (sum [sha256.Size]byte, known bool) {
	i, found := d.find(offset / format.ChunkSize)
	if !found || d.table.ChunkSize != format.ChunkSize || offset%format.ChunkSize != 0 {
		return sum, false
	}
	n, err := hex.Decode(sum[:], []byte(d.table.Chunks[i].Sum.Encoded()))
	return sum, err == nil && n == len(sum)
}

// load reads and checks one chunk.
func (d *Disk) load(c Chunk) ([]byte, error) {
	encoded, err := d.blobs.ReadRaw(nil, c.descriptor())
	if err != nil {
		return nil, fmt.Errorf("chunk %d: %w", c.Index, d.explain(c, err))
	}
	chunk, err := d.decoder.DecodeAll(encoded, make([]byte, 0, d.table.ChunkSize))
	if err == nil && int64(len(chunk)) != d.table.ChunkSize {
		err = fmt.Errorf("it holds %d bytes", len(chunk))
	}
	if err == nil && digest.FromBytes(chunk) != c.Sum {
		err = errors.New("it holds other bytes than the disk")
	}
	if err != nil {
		return nil, fmt.Errorf("chunk %d, blob %s: %w", c.Index, c.Blob, d.explain(c, err))
	}
	return chunk, nil
}

// explain finds out whose fault it is: a blob that is not what its name says is
// removed, so that the next build or pull brings it anew; else the table lies.
func (d *Disk) explain(c Chunk, err error) error {
	if errors.Is(err, blob.ErrDamaged) || d.blobs.Discard(c.descriptor()) {
		return errors.Join(err, blob.ErrDamaged)
	}
	return errors.Join(err, format.ErrCorrupt)
}
