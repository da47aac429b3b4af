package format

import (
	"fmt"

	"nodesmith.dev/nodesmith/internal/format/blockcache"
)

// encoders is one worker's encoder for each codec.
type encoders struct {
	codecs []Codec
	each   []Encoder
	blocks *blockcache.Cache // nil for none
}

func newEncoders(codecs []Codec, blocks *blockcache.Cache) (encoders, error) {
	e := encoders{codecs: codecs, each: make([]Encoder, len(codecs)), blocks: blocks}
	for i, codec := range codecs {
		encoder, err := codec.NewEncoder()
		if err != nil {
			return e, fmt.Errorf("codec %s: %w", codec.ID(), err)
		}
		e.each[i] = encoder
	}
	return e, nil
}

// ask reports whether encode needs the sums of chunks.
func (e encoders) ask() bool { return e.blocks != nil && len(e.codecs) > 0 }

// encode puts what each codec makes of block into the codec's place in room. It
// asks the cache first, where key names the block, and tells it what is new.
func (e encoders) encode(room [][]byte, block []byte, key blockcache.Key) (err error) {
	for i, encoder := range e.each {
		var known bool
		if e.blocks != nil {
			room[i], known = e.blocks.Get(e.codecs[i].ID(), key, room[i][:0])
		}
		if known {
			continue
		}
		if room[i], err = encoder.Encode(room[i][:0], block); err != nil {
			return err
		}
		if e.blocks != nil {
			e.blocks.Put(e.codecs[i].ID(), key, room[i])
		}
	}
	return nil
}
