package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/store"
)

func TestTheNewestImagesAndThoseWithAGivenTagStay(t *testing.T) {
	s := newStore(t)
	var references []string
	for n := range 5 { // all from the same lock: each takes the tag of the one before
		own := digest.FromString("lock\n").Encoded()[:12]
		references = append(references, build(t, s, "a", own, one(uint64(n))).Reference())
		if n == 0 {
			if _, err := s.Tag(t.Context(), store.Reference{Name: "a", Tag: store.Latest}, store.Reference{Name: "a", Tag: "stable"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	build(t, s, "b", "other", one(9))
	list := func() (names []string) {
		images, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			names = append(names, fmt.Sprint(i.Name, i.Tags))
		}
		slices.Sort(names)
		return names
	}
	before := list()
	looked, err := s.KeepNewest(t.Context(), 2, true)
	if err != nil || !slices.Equal(before, list()) {
		t.Fatalf("a look changed %v to %v, %v", before, list(), err)
	}
	gone, err := s.KeepNewest(t.Context(), 2, false)
	if err != nil || len(gone) != 2 || len(looked) != 2 {
		t.Fatalf("%d images went, %d were to go: %v", len(gone), len(looked), err)
	}
	for _, i := range gone {
		if i.Name != "a" || len(i.Tags) != 0 {
			t.Errorf("%s %v went", i.Name, i.Tags)
		}
	}
	if after := list(); len(after) != len(before)-2 || !slices.Contains(after, "a[stable]") {
		t.Errorf("left are %v of %v (%v)", after, before, references)
	}
	if gone, err := s.KeepNewest(t.Context(), 2, false); err != nil || len(gone) != 0 {
		t.Errorf("the second time %d went, %v", len(gone), err)
	}
	if _, err := s.KeepNewest(t.Context(), 0, false); err == nil {
		t.Error("none was to be kept, and that is no error")
	}
	if freed := collect(t, s); freed.Blobs == 0 {
		t.Error("nothing is free after it")
	}
}
