package progress

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Work is something under way outside the engine. It is safe for concurrent use.
type Work struct {
	r               *Recorder
	id, step, stage string
	from            time.Time

	current, total int64     // bytes
	told           time.Time // when the bytes were
}

// Begin notes that a step of a stage begins outside the engine. Whoever began it
// ends it.
func (r *Recorder) Begin(stage, step string) *Work {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.works++
	w := &Work{r: r, id: fmt.Sprintf("work:%d", r.works), step: step, stage: stage, from: time.Now()}
	w.emit(Event{Time: w.from, Type: Started})
	return w
}

// emit passes an event about the work on. The recorder's lock is held.
func (w *Work) emit(e Event) {
	e.ID, e.Step, e.Stage = w.id, w.step, w.stage
	w.r.options.Emit(e)
}

// Log passes on a line about the work.
func (w *Work) Log(format string, args ...any) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.emit(Event{Time: time.Now(), Type: Output, Stream: "stderr", Text: sentence(fmt.Sprintf(format, args...))})
}

// Expect says how many bytes the work moves, where that is known.
func (w *Work) Expect(bytes int64) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.total = bytes
}

// Add says that so many bytes more are done.
func (w *Work) Add(bytes int64) {
	now := time.Now()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.current += bytes
	if now.Sub(w.told) >= between {
		w.told = now
		w.emit(Event{Time: now, Type: Transferred, CurrentBytes: w.current, TotalBytes: w.total})
	}
}

// End notes how the work ended.
func (w *Work) End(err error) {
	now := time.Now()
	e := Event{Time: now, Type: Finished, Seconds: now.Sub(w.from).Seconds()}
	switch {
	case errors.Is(err, context.Canceled):
		e.Type = Canceled
	case err != nil:
		e.Type, e.Error = Failed, sentence(err.Error())
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if w.current > 0 {
		e.CurrentBytes, e.TotalBytes = w.current, w.total
	}
	w.r.spans[w.stage] = append(w.r.spans[w.stage], span{w.from, now})
	if err == nil {
		w.r.done = append(w.r.done, Step{Name: w.step, Started: w.from, Completed: now})
	}
	w.emit(e)
}
