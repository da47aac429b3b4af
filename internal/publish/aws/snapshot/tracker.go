package snapshot

import "sync"

// noteEvery is after how many blocks the tracker tells: 128 MiB that a killed
// run may send again, and one write to the disk.
const noteEvery = 256

// tracker knows below which block all are there. Blocks begin in ascending
// order, and end in any.
type tracker struct {
	tell func(through int32) error

	mu      sync.Mutex
	flight  []int32 // begun, ascending; those that ended at the front are cut off
	ended   map[int32]bool
	through int32
	told    int // blocks that ended since tell was called
}

func (t *tracker) begin(index int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flight = append(t.flight, index)
}

func (t *tracker) end(index int32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = map[int32]bool{}
	}
	t.ended[index] = true
	for len(t.flight) > 0 && t.ended[t.flight[0]] {
		delete(t.ended, t.flight[0])
		t.through = max(t.through, t.flight[0]+1)
		t.flight = t.flight[1:]
	}
	if t.told++; t.told < noteEvery {
		return nil
	}
	return t.tellNow()
}

// flush tells what was not told.
func (t *tracker) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told == 0 {
		return nil
	}
	return t.tellNow()
}

func (t *tracker) tellNow() error {
	t.told = 0
	if t.tell == nil {
		return nil
	}
	return t.tell(t.through)
}
