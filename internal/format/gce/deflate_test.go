package gce

import (
	"bytes"
	"compress/flate"
	"hash/crc32"
	"io"
	"testing"
)

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
