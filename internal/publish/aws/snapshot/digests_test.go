package snapshot

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

func someDigests(n int) Digests {
	r := rand.New(rand.NewPCG(1, 1))
	list := make(Digests, n)
	for i := range list {
		list[i].Index = int32(3 * i)
		for j := range list[i].Sum {
			list[i].Sum[j] = byte(r.Uint32())
		}
	}
	return list
}

func TestDigestsSurviveTheirFile(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		path := filepath.Join(t.TempDir(), "blocks")
		want := someDigests(n)
		if err := want.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d digests: got %d, %v", n, len(got), err)
		}
	}
}

func TestADamagedFileOfDigestsIsRefused(t *testing.T) {
	whole, _ := someDigests(3).MarshalBinary()
	backwards, _ := Digests{{Index: 5}, {Index: 4}}.MarshalBinary()
	negative, _ := Digests{{Index: -1}}.MarshalBinary()
	flipped := slices.Clone(whole)
	flipped[len(magic)+10] ^= 1
	for name, file := range map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)-1], "a record short": whole[:len(whole)-recordSize], "a bit flipped": flipped,
		"another kind of file": []byte("something else"), "indices backwards": backwards, "a negative index": negative,
	} {
		var d Digests
		if err := d.UnmarshalBinary(file); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDigests(f *testing.F) {
	whole, _ := someDigests(3).MarshalBinary()
	f.Add(whole)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		var d Digests
		if d.UnmarshalBinary(file) != nil {
			return
		}
		if again, _ := d.MarshalBinary(); !slices.Equal(again, file) {
			t.Error("a file that was read is written otherwise")
		}
	})
}
