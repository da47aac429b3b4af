package gce

import (
	"bytes"
	"compress/flate"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/deflate"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

// samples are blocks of all kinds: zeros, text, noise, and all between.
func samples() [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	blocks := [][]byte{zeros, bytes.Repeat([]byte("text and "), format.BlockSize/9+1)[:format.BlockSize]}
	for noise := range 300 {
		block := make([]byte, format.BlockSize)
		for i := range block {
			block[i] = byte(i / 100)
			if r.IntN(300) < noise {
				block[i] = byte(r.Uint32())
			}
		}
		blocks = append(blocks, block)
	}
	return blocks
}

func TestJoinedBlocksAreOneStream(t *testing.T) {
	encoder, err := deflate.Codec{}.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	var stream, want, scratch []byte
	for _, block := range samples() {
		encoded, err := encoder.Encode(nil, block)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(encoded)
		body, tail, err := joinable(encoded, scratch)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, encoded) {
			t.Fatal("the shared stream was changed")
		}
		stream, want, scratch = append(append(stream, body...), tail...), append(want, block...), tail
	}
	stream = append(stream, 1, 0, 0, 0xff, 0xff) // the last block
	got, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
}

// The mark of the last block may be any bit of a byte: each block here has 19
// bits, a literal of 255 with fixed codes.
func TestJoinsAtEveryBit(t *testing.T) {
	for literals := range 16 {
		stream := packBits(strings.Repeat("010"+"111111111"+"0000000", literals) + "110" + "0000000")
		body, tail, err := joinable(slices.Concat([]byte{0x78, 0x9c}, stream, make([]byte, 4)), nil)
		if err != nil {
			t.Fatalf("%d literals: %v", literals, err)
		}
		joined := slices.Concat(body, tail, storeBlock(nil, []byte("more")), []byte{1, 0, 0, 0xff, 0xff})
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(joined)))
		if want := strings.Repeat("\xff", literals) + "more"; err != nil || string(got) != want {
			t.Errorf("%d literals: %q, %v", literals, got, err)
		}
	}
}

// packBits fills bytes from their lowest bit on.
func packBits(digits string) []byte {
	packed := make([]byte, (len(digits)+7)/8)
	for i, digit := range digits {
		packed[i/8] |= byte(digit-'0') << (i % 8)
	}
	return packed
}

// Two codecs of one ID have to be one function; the converter relies on it.
func TestCodecIsThatOfVMDKs(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	other, err := vmdk.Format.New(format.NewOutput(f, 0), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if ours, theirs := (deflate.Codec{}).ID(), other.Codec().ID(); ours != theirs {
		t.Fatalf("%q is not shared with %q", ours, theirs)
	}
	a, errA := deflate.Codec{}.NewEncoder()
	b, errB := other.Codec().NewEncoder()
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	for i, block := range samples() {
		x, errX := a.Encode([]byte("x"), block)
		y, errY := b.Encode([]byte("x"), block)
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			t.Errorf("sample %d: %d and %d bytes, %v, %v", i, len(x), len(y), errX, errY)
		}
	}
}

func TestStreamsThatEndOtherwiseAreRefused(t *testing.T) {
	for name, stream := range map[string][]byte{
		"nothing":           nil,
		"zeros":             make([]byte, 20),
		"a stored block":    {0x78, 0x9c, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 1},
		"more than padding": {0x78, 0x9c, 3, 0, 0, 0, 0, 0, 1},
	} {
		if _, _, err := joinable(stream, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestCombinedCRCIsThatOfBoth(t *testing.T) {
	first := bytes.Repeat([]byte("nodesmith"), 1000)
	for _, n := range []int{0, 1, 2, 7, 64, 511, 65536, 1000003} {
		second := bytes.Repeat([]byte{0xa5, 1, 0}, n)[:n]
		got := combineCRC(crc32.ChecksumIEEE(first), crc32.ChecksumIEEE(second), int64(n))
		if want := crc32.ChecksumIEEE(append(bytes.Clone(first), second...)); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func TestPaddingMeansNothing(t *testing.T) {
	for n := 20; n < 600; n++ {
		stream := padDeflate(storeBlock(nil, []byte("before")), n)
		if want := storedOverhead + len("before") + n; len(stream) != want {
			t.Fatalf("padding of %d: %d bytes, want %d", n, len(stream), want)
		}
		stream = append(storeBlock(stream, []byte(" and behind")), 1, 0, 0, 0xff, 0xff)
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
		if err != nil || string(got) != "before and behind" {
			t.Fatalf("padding of %d: %q, %v", n, got, err)
		}
	}
	if got := padDeflate(nil, 0); len(got) != 0 {
		t.Errorf("padding of 0: %x", got)
	}
}

// Whatever the map's length, its header and the padding fill the room exactly.
func TestLongestMapFitsIntoTheRoom(t *testing.T) {
	if longest := headerSize(maxExtents + 1); longest > storedBlockMax {
		t.Fatalf("a header of %d bytes is too long for one stored block", longest)
	}
	for entries := 1; entries <= maxExtents+1; entries++ {
		rest := reserved - int64(len(gzipHeader)) - storedOverhead - headerSize(entries)
		if rest < 0 || rest > 0 && rest < 20 {
			t.Fatalf("%d entries leave %d bytes", entries, rest)
		}
	}
}
