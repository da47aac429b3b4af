package progress

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
)

// historyEntries bounds a history: about fifty builds that share nothing.
const historyEntries = 2048

// historyBytes is more than a history of that many entries has; a longer file
// was not written here.
const historyBytes = 4 << 20

// History is how long steps took when they last ran: a small file that builds
// write and plans read. Losing it costs no more than that.
type History struct {
	path    string
	entries []taken // the oldest first
}

// taken is one step's last run.
type taken struct {
	Digest  digest.Digest `json:"digest,omitempty"` // none for work outside the engine
	Name    string        `json:"name"`
	Seconds float64       `json:"seconds"`
	Ended   time.Time     `json:"ended"`
}

// OpenHistory reads the history at path. One that is not there, or that can't be
// read, is empty.
func OpenHistory(path string) *History {
	h := &History{path: path}
	if info, err := os.Stat(path); err != nil || info.Size() > historyBytes {
		return h
	}
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &h.entries) != nil {
		h.entries = nil
	}
	return h
}

// Took returns how long a step took when it last ran; exact says that it was this
// very step, with the same inputs, and not only one of its name.
func (h *History) Took(step digest.Digest, name string) (took time.Duration, exact, known bool) {
	for _, e := range slices.Backward(h.entries) {
		switch {
		case step != "" && e.Digest == step:
			return seconds(e.Seconds), true, true
		case e.Name == name && !known:
			took, known = seconds(e.Seconds), true
		}
	}
	return took, false, known
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// Add writes those of the steps that ran into the history.
func (h *History) Add(steps []Step) error {
	var now []taken
	for _, s := range steps {
		if s.Ran() && !s.Input() {
			now = append(now, taken{s.Digest, s.Name, s.Completed.Sub(s.Started).Seconds(), s.Completed})
		}
	}
	if len(now) == 0 {
		return nil
	}
	if err := h.merge(now); err != nil {
		return fault.NoSpaceOr(fmt.Errorf("the history of steps: %w", err))
	}
	return nil
}

// merge adds entries to the file, which other processes may write as well.
func (h *History) merge(now []taken) (err error) {
	if err := os.MkdirAll(filepath.Dir(h.path), 0o755); err != nil {
		return err
	}
	lock := flock.New(h.path+".lock", flock.SetPermissions(0o644))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	entries := OpenHistory(h.path).entries
	entries = slices.DeleteFunc(entries, func(e taken) bool {
		return slices.ContainsFunc(now, func(n taken) bool { return n.Digest == e.Digest && n.Name == e.Name })
	})
	entries = append(entries, now...)
	slices.SortStableFunc(entries, func(a, b taken) int { return cmp.Compare(a.Ended.UnixNano(), b.Ended.UnixNano()) })
	h.entries = entries[max(0, len(entries)-historyEntries):]
	data, err := json.Marshal(h.entries)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(h.path, "", data, 0o644)
}
