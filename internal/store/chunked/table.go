// Package chunked keeps a disk as compressed chunks.
//
// What comes in are a disk's blocks, from the one pass that also makes files of
// it; what goes out is a Table: which chunk of the disk is which blob. A chunk
// that is all zero has none, a chunk that a blob is known for is not compressed
// again, and images that share a chunk share its blob. The table depends on the
// disk's content alone; the blobs on it and on the compressor's version. A Table
// opens as a disk again: read anywhere, by many, each chunk checked.
//
// Memory is bounded whatever the disk's size: two buffers of a chunk's size for
// each core, and the table, about 200 bytes a chunk.
package chunked

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/store/blob"
)

// Bounds of chunks, in bytes: of MinChunk a conversion knows the digests, MaxChunk is
// what a reader is ready to hold several of.
const (
	MinChunk = format.ChunkSize
	MaxChunk = 64 << 20
)

// MaxChunks is how many chunks a disk has at most: larger disks have larger
// chunks, so that the manifest that lists them stays below the 4 MiB that
// registries take.
const MaxChunks = 16384

// MediaType is that of a chunk's blob.
const MediaType = "application/vnd.nodesmith.disk.chunk.v1+zstd"

// Chunk is a piece of a disk that is not all zero.
type Chunk struct {
	// Index counts chunks from the disk's begin.
	Index int64
	// Sum is the SHA-256 of the chunk; a disk's last is filled up with zeros.
	Sum digest.Digest
	// Blob is the compressed chunk, of Size bytes.
	Blob digest.Digest
	Size int64
}

// descriptor is what the store and registries know of the chunk.
func (c Chunk) descriptor() ocispecs.Descriptor {
	return ocispecs.Descriptor{MediaType: MediaType, Digest: c.Blob, Size: c.Size}
}

// Table is a disk in chunks, in the disk's order.
type Table struct {
	// Size is the disk's and ChunkSize that of every chunk, in bytes.
	Size, ChunkSize int64
	Chunks          []Chunk
}

// Digest identifies the disk's content, wherever it is and however it is
// compressed.
func (t Table) Digest() digest.Digest {
	sum := sha256.New()
	fmt.Fprintf(sum, "nodesmith disk v1\nsize %d\nchunk %d\n", t.Size, t.ChunkSize)
	for _, c := range t.Chunks {
		fmt.Fprintf(sum, "%d %s\n", c.Index, c.Sum)
	}
	return digest.NewDigest(digest.SHA256, sum)
}

// StoredBytes is what the chunks' blobs take.
func (t Table) StoredBytes() (total int64) {
	for _, c := range t.Chunks {
		total += c.Size
	}
	return total
}

// Layers are the chunks' blobs, in the disk's order.
func (t Table) Layers() []ocispecs.Descriptor {
	layers := make([]ocispecs.Descriptor, len(t.Chunks))
	for i, c := range t.Chunks {
		layers[i] = c.descriptor()
	}
	return layers
}

// Whole reports whether all chunks are in the folder.
func (t Table) Whole(blobs *blob.Folder) bool {
	for _, c := range t.Chunks {
		if !blobs.Has(c.descriptor()) {
			return false
		}
	}
	return true
}

// Check fails on a table that can't be a disk's: those of a store or a registry
// may be anybody's.
func (t Table) Check() error {
	if t.Size <= 0 || t.Size > format.MaxSize || t.Size%format.SectorSize != 0 {
		return fmt.Errorf("disk of %d bytes: %w", t.Size, format.ErrCorrupt)
	}
	if t.ChunkSize < MinChunk || t.ChunkSize > MaxChunk || bits.OnesCount64(uint64(t.ChunkSize)) != 1 {
		return fmt.Errorf("chunks of %d bytes: %w", t.ChunkSize, format.ErrCorrupt)
	}
	if len(t.Chunks) > MaxChunks {
		return fmt.Errorf("%d chunks, more than %d: %w", len(t.Chunks), MaxChunks, format.ErrCorrupt)
	}
	last, end := int64(-1), (t.Size+t.ChunkSize-1)/t.ChunkSize
	for _, c := range t.Chunks {
		if c.Index <= last || c.Index >= end {
			return fmt.Errorf("chunk %d of %d behind chunk %d: %w", c.Index, end, last, format.ErrCorrupt)
		}
		if c.Size <= 0 || c.Size > t.ChunkSize+t.ChunkSize/8 {
			return fmt.Errorf("chunk %d is stored in %d bytes: %w", c.Index, c.Size, format.ErrCorrupt)
		}
		for _, d := range []digest.Digest{c.Sum, c.Blob} {
			if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
				return fmt.Errorf("chunk %d: digest %q: %w", c.Index, d, format.ErrCorrupt)
			}
		}
		last = c.Index
	}
	return nil
}

// extent is the run of chunks that begins with the i-th, cut at the disk's end.
func (t Table) extent(i int) format.Extent {
	start, end := t.Chunks[i].Index, t.Chunks[i].Index+1
	for i++; i < len(t.Chunks) && t.Chunks[i].Index == end; i++ {
		end++
	}
	return format.Extent{Offset: start * t.ChunkSize, Length: min(end*t.ChunkSize, t.Size) - start*t.ChunkSize}
}

// Known are chunks whose blobs are in a store already.
type Known map[digest.Digest]Chunk // by Sum

// Add makes a disk's chunks known.
func (k Known) Add(t Table) {
	for _, c := range t.Chunks {
		k[c.Sum] = c
	}
}

// compile-time check: a Disk is read like any image, and knows what it holds.
var _ format.Summed = (*Disk)(nil)
