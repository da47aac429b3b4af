package format

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"nodesmith.dev/nodesmith/internal/format/blockcache"
)

// group is a chunk of the disk on its way through a pipe.
type group struct {
	offset int64 // of the chunk on the disk, in bytes
	data   []byte
	sum    *[sha256.Size]byte    // of data; nil if it was not needed
	room   [groupBlocks][][]byte // reused for encoded, by block and codec
	blocks []encoded             // what is not all zero
	ready  chan struct{}         // closed when blocks is complete
	users  atomic.Int32          // writers that have yet to take it
}

// encoded is one non-zero block with what the codecs made of it.
type encoded struct {
	offset  int64
	data    []byte
	encoded [][]byte
	hash    uint64
}

func newGroup(codecs int) *group {
	g := &group{data: make([]byte, ChunkSize), blocks: make([]encoded, 0, groupBlocks)}
	for i := range g.room {
		g.room[i] = make([][]byte, codecs)
	}
	return g
}

func (g *group) reset(offset int64, users int) {
	g.offset, g.sum, g.blocks, g.ready = offset, nil, g.blocks[:0], make(chan struct{})
	g.users.Store(int32(users))
}

// fill reads the chunk and encodes its blocks that are not zero.
func (g *group) fill(src Source, encoders encoders) error {
	want := min(ChunkSize, src.Size()-g.offset)
	n, err := src.ReadAt(g.data[:want], g.offset)
	if int64(n) < want {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes of the disk at byte %d: %w", want, g.offset, err)
	}
	clear(g.data[want:])
	for i := range groupBlocks {
		block := g.data[i*BlockSize : (i+1)*BlockSize]
		if isZero(block) {
			continue
		}
		var key blockcache.Key
		if encoders.ask() {
			key = blockcache.Key{Chunk: g.digest(src), Block: uint8(i)}
		}
		offset := g.offset + int64(i)*BlockSize
		if err := encoders.encode(g.room[i], block, key); err != nil {
			return fmt.Errorf("encode the disk's block at byte %d: %w", offset, err)
		}
		g.blocks = append(g.blocks, encoded{offset, block, g.room[i], hash(block)})
	}
	return nil
}

// digest returns the chunk's, which src may know.
func (g *group) digest(src Source) [sha256.Size]byte {
	if g.sum == nil {
		var sum [sha256.Size]byte
		known := false
		if summed, ok := src.(Summed); ok {
			sum, known = summed.ChunkSum(g.offset)
		}
		if !known {
			sum = sha256.Sum256(g.data)
		}
		g.sum = &sum
	}
	return *g.sum
}
