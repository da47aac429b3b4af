package ext4

import (
	"encoding/binary"
	"math/bits"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
)

// hashHalfMD4 is s_def_hash_version: half of MD4 over names as signed bytes, as
// mke2fs chooses it on amd64 (super.rst, s_def_hash_version; s_flags says signed).
const hashHalfMD4 = 1

// endOfHash may not be a hash: the kernel marks the end of a directory with it.
const endOfHash = 0x7FFFFFFF << 1

// nameHash is the hash of a name by which an indexed directory is sorted, and
// the second one that follows for equal ones (fs/ext4/hash.c, __ext4fs_dirhash).
func nameHash(name string, seed gpt.GUID) (major, minor uint32) {
	state := [4]uint32{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}
	if seed != (gpt.GUID{}) {
		for i := range state {
			state[i] = binary.LittleEndian.Uint32(seed[4*i:])
		}
	}
	const chunk = 32
	for rest := name; len(rest) > 0; rest = rest[min(len(rest), chunk):] {
		halfMD4(&state, hashWords(rest))
	}
	major = state[1] &^ 1
	if major == endOfHash {
		major = (0x7FFFFFFF - 1) << 1
	}
	return major, state[2]
}

// hashWords packs up to 32 bytes of a name into words, filled up with its length
// (str2hashbuf_signed).
func hashWords(name string) (words [8]uint32) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	value, next := pad, 0
	for i := range min(len(name), 4*len(words)) {
		value = uint32(int32(int8(name[i]))) + value<<8
		if i%4 == 3 {
			words[next], value = value, pad
			next++
		}
	}
	for ; next < len(words); next++ {
		words[next], value = value, pad
	}
	return words
}

// halfMD4 is half_md4_transform of fs/ext4/hash.c: MD4's rounds with half of
// the steps.
func halfMD4(state *[4]uint32, in [8]uint32) {
	const k2, k3 = 0x5A827999, 0x6ED9EBA1 // square roots of 2 and 3
	a, b, c, d := state[0], state[1], state[2], state[3]
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	for _, round := range []struct {
		mix    func(x, y, z uint32) uint32
		add    uint32
		order  [8]int
		shifts [4]int
	}{
		{f, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{g, k2, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{h, k3, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	} {
		for i, word := range round.order {
			a = bits.RotateLeft32(a+round.mix(b, c, d)+in[word]+round.add, round.shifts[i%4])
			a, b, c, d = d, a, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
