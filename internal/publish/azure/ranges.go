package azure

import (
	"slices"
	"sync"

	"nodesmith.dev/nodesmith/internal/format"
)

// ranges is a set of bytes: extents in ascending order that neither touch nor
// overlap.
type ranges []format.Extent

// add appends an extent that begins at or behind the begin of the last one.
func (r ranges) add(e format.Extent) ranges {
	last := len(r) - 1
	if last < 0 || e.Offset > r[last].End() {
		return append(r, e)
	}
	r[last].Length = max(r[last].End(), e.End()) - r[last].Offset
	return r
}

// cover says whether all of e is in the set.
func (r ranges) cover(e format.Extent) bool {
	i, found := slices.BinarySearchFunc(r, e.Offset, func(x format.Extent, offset int64) int {
		switch {
		case x.Offset > offset:
			return 1
		case x.End() <= offset:
			return -1
		}
		return 0
	})
	return found && r[i].End() >= e.End()
}

// without returns what is in r and not in other.
func (r ranges) without(other ranges) (rest ranges) {
	for _, e := range r {
		for len(other) > 0 && other[0].End() <= e.Offset {
			other = other[1:]
		}
		at := e.Offset
		for _, o := range other {
			if o.Offset >= e.End() {
				break
			}
			if o.Offset > at {
				rest = append(rest, format.Extent{Offset: at, Length: o.Offset - at})
			}
			at = o.End()
		}
		if at < e.End() {
			rest = append(rest, format.Extent{Offset: at, Length: e.End() - at})
		}
	}
	return rest
}

// noteEvery is how many bytes of the file lie between two notes of what
// arrived: a publish of 20 GiB leaves 80 lines in its journal.
const noteEvery = 256 << 20

// waterline follows up to where everything has arrived, and tells of it every
// noteEvery bytes.
type waterline struct {
	mu    sync.Mutex
	open  []*mark // in the file's order
	low   int64   // all before it has arrived
	noted int64
	tell  func(offset int64) error
}

// mark is a window that is under way.
type mark struct {
	end     int64
	arrived bool
}

func newWaterline(tell func(offset int64) error) *waterline { return &waterline{tell: tell} }

// begin says that a window is under way; windows ascend.
func (w *waterline) begin(end int64) *mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &mark{end: end}
	w.open = append(w.open, m)
	return m
}

// done says that a window has arrived.
func (w *waterline) done(m *mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.arrived = true
	for len(w.open) > 0 && w.open[0].arrived {
		w.low = w.open[0].end
		w.open = w.open[1:]
	}
	if w.low-w.noted < noteEvery {
		return nil
	}
	w.noted = w.low
	return w.tell(w.low)
}
