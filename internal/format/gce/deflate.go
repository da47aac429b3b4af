package gce

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// What stands in a zlib stream around the deflate stream, in bytes.
const (
	zlibHeader  = 2
	zlibTrailer = 4 // Adler-32
)

// joinable returns the two parts of a deflate stream that says the same as the
// zlib stream, but goes on: body is a part of the zlib stream, which stays as
// it is, and tail a few bytes in scratch. The encoder ends with an empty block
// with fixed codes: the bits 1 (the last block), 10 (fixed codes), 0000000 (end
// of the block), then zeros up to a whole byte. The first is cleared, and an
// empty stored block reaches a whole byte, as in zlib's Z_SYNC_FLUSH.
func joinable(zlibStream, scratch []byte) (body, tail []byte, err error) {
	const blockBits, storedBits = 1 + 2 + 7, 1 + 2
	if len(zlibStream) < zlibHeader+zlibTrailer+2 {
		return nil, nil, fmt.Errorf("a zlib stream of %d bytes", len(zlibStream))
	}
	body = zlibStream[zlibHeader : len(zlibStream)-zlibTrailer]
	last := len(body) - 1
	for last > 0 && body[last] == 0 {
		last--
	}
	// The highest bit set is the 1 of fixed codes; the one below is the mark.
	mark := last*8 + bits.Len8(body[last]) - 2
	if mark < 0 || body[mark/8]&(1<<(mark%8)) == 0 || (mark+blockBits+7)/8 != len(body) {
		return nil, nil, fmt.Errorf("a zlib stream that ends with %x, not with an empty block with fixed codes", body[max(0, last-1):])
	}
	tail = scratch[:0]
	tail = append(tail, body[mark/8:]...)
	body = body[:mark/8]
	tail[0] &^= 1 << (mark % 8)
	if len(tail)*8 < mark%8+blockBits+storedBits {
		tail = append(tail, 0)
	}
	return body, append(tail, 0x00, 0x00, 0xff, 0xff), nil
}

// The parts of a gzip file (RFC 1952, section 2.3) beside the deflate stream.
// XFL and the time are 0, and OS 255 is "unknown".
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

// gzipTrailer is CRC32 and ISIZE of size bytes.
func gzipTrailer(crc uint32, size int64) []byte {
	trailer := binary.LittleEndian.AppendUint32(nil, crc)
	return binary.LittleEndian.AppendUint32(trailer, uint32(size))
}

// storedBlockMax is the longest stored block (RFC 1951, section 3.2.4), and
// storedOverhead what it takes beside its content, in bytes, if it begins at a
// whole byte.
const (
	storedBlockMax = 1<<16 - 1
	storedOverhead = 5
)

// storeBlock appends content, at most storedBlockMax bytes, as a stored block.
func storeBlock(dst, content []byte) []byte {
	dst = append(dst, 0) // not the last, type 0, filled up to a whole byte
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(content)))
	dst = binary.LittleEndian.AppendUint16(dst, ^uint16(len(content)))
	return append(dst, content...)
}

// Two ways to say nothing in a deflate stream, of 5 and of 6 bytes: an empty
// stored block, alone and behind an empty block with fixed codes.
var (
	nothing5 = []byte{0x00, 0x00, 0x00, 0xff, 0xff}
	nothing6 = []byte{0x02, 0x00, 0x00, 0x00, 0xff, 0xff}
)

// padDeflate appends n bytes that mean nothing; n is 0 or at least 20, from
// where on every number is a sum of fives and sixes.
func padDeflate(dst []byte, n int) []byte {
	sixes := n % 5
	dst = append(dst, bytes.Repeat(nothing6, sixes)...)
	return append(dst, bytes.Repeat(nothing5, (n-6*sixes)/5)...)
}

// combineCRC is the CRC-32 of two texts one behind the other, from the CRC of
// each and the length of the second: a CRC is a polynomial's remainder, so the
// first is to be multiplied by x to the power of the second's bits.
func combineCRC(first, second uint32, secondLength int64) uint32 {
	const one, byteShift = 1 << 31, 1 << 23 // x^0 and x^8: the highest bit is x^0
	power, square := uint32(one), uint32(byteShift)
	for n := secondLength; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return multiply(power, first) ^ second
}

// multiply is the product of two polynomials modulo CRC-32's.
func multiply(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1 << 31); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}
