package snapshot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"nodesmith.dev/nodesmith/internal/atomicfile"
)

// Block is one block of a snapshot by what it holds.
type Block struct {
	Index int32
	Sum   [sha256.Size]byte
}

// Digests are the blocks of a snapshot, by index.
type Digests []Block

// Checksum is EBS's LINEAR aggregation: SHA-256 of the blocks' digests, in
// ascending order of their indices, in base64.
func (d Digests) Checksum() string {
	all := sha256.New()
	for i := range d {
		all.Write(d[i].Sum[:])
	}
	return base64.StdEncoding.EncodeToString(all.Sum(nil))
}

// Sum returns a block's digest; that of zeros for one that is not there.
func (d Digests) Sum(index int32) [sha256.Size]byte {
	if at, ok := d.find(index); ok {
		return d[at].Sum
	}
	return zerosSum
}

// find returns where the block is, or would be.
func (d Digests) find(index int32) (int, bool) {
	return slices.BinarySearchFunc(d, index, func(b Block, index int32) int { return cmp.Compare(b.Index, index) })
}

func (d Digests) sort() {
	slices.SortFunc(d, func(a, b Block) int { return cmp.Compare(a.Index, b.Index) })
}

// A file of digests is the magic, a record for each block by index (the index in
// 4 bytes, big endian, and the digest), and SHA-256 of all that.
const (
	magic      = "nodesmith blocks of 524288 bytes, version 1\n"
	recordSize = 4 + sha256.Size
)

// ErrDamaged says that a file of digests does not hold what was written.
var ErrDamaged = errors.New("list of blocks is damaged")

// MarshalBinary returns the digests as a file.
func (d Digests) MarshalBinary() ([]byte, error) {
	out := make([]byte, 0, len(magic)+len(d)*recordSize+sha256.Size)
	out = append(out, magic...)
	for i := range d {
		out = binary.BigEndian.AppendUint32(out, uint32(d[i].Index))
		out = append(out, d[i].Sum[:]...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

// UnmarshalBinary reads what MarshalBinary returned, and nothing else.
func (d *Digests) UnmarshalBinary(file []byte) error {
	body, found := bytes.CutPrefix(file, []byte(magic))
	if !found || len(body)%recordSize != sha256.Size {
		return ErrDamaged
	}
	end := len(file) - sha256.Size
	if sum := sha256.Sum256(file[:end]); !bytes.Equal(sum[:], file[end:]) {
		return ErrDamaged
	}
	records := body[:len(body)-sha256.Size]
	list := make(Digests, 0, len(records)/recordSize)
	for before := int32(-1); len(records) > 0; records = records[recordSize:] {
		block := Block{Index: int32(binary.BigEndian.Uint32(records)), Sum: [sha256.Size]byte(records[4:recordSize])}
		if block.Index <= before {
			return ErrDamaged
		}
		list, before = append(list, block), block.Index
	}
	*d = list
	return nil
}

// Save writes the digests to a file, which appears when it is whole.
func (d Digests) Save(path string) error {
	content, err := d.MarshalBinary()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(path, "", content, 0o600); err != nil {
		return fmt.Errorf("list of blocks: %w", err)
	}
	return nil
}

// Load reads the file at path.
func Load(path string) (Digests, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("list of blocks: %w", err)
	}
	var d Digests
	if err := d.UnmarshalBinary(content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}
