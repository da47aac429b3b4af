package format

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// group is up to groupBlocks neighbouring blocks on their way through a pipe.
type group struct {
	offset int64 // of the first block on the disk, in bytes
	count  int   // blocks to read
	data   []byte
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
	g := &group{data: make([]byte, groupBlocks*BlockSize), blocks: make([]encoded, 0, groupBlocks)}
	for i := range g.room {
		g.room[i] = make([][]byte, codecs)
	}
	return g
}

func (g *group) reset(offset int64, count, users int) {
	g.offset, g.count, g.blocks, g.ready = offset, count, g.blocks[:0], make(chan struct{})
	g.users.Store(int32(users))
}

// fill reads the group's blocks and encodes those that are not zero.
func (g *group) fill(src Source, encoders encoders) error {
	data := g.data[:g.count*BlockSize]
	want := min(int64(len(data)), src.Size()-g.offset)
	n, err := src.ReadAt(data[:want], g.offset)
	if int64(n) < want {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes of the disk at byte %d: %w", want, g.offset, err)
	}
	clear(data[want:])
	for i := range g.count {
		block := data[i*BlockSize : (i+1)*BlockSize]
		if isZero(block) {
			continue
		}
		if err := encoders.encode(g.room[i], block); err != nil {
			return fmt.Errorf("encode the disk's block at byte %d: %w", g.offset+int64(i)*BlockSize, err)
		}
		g.blocks = append(g.blocks, encoded{g.offset + int64(i)*BlockSize, block, g.room[i], hash(block)})
	}
	return nil
}
