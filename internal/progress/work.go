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
}

// Begin notes that a step of a stage begins outside the engine. Whoever began it
// ends it.
func (r *Recorder) Begin(stage, step string) *Work {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.works++
	w := &Work{r, fmt.Sprintf("work:%d", r.works), step, stage, time.Now()}
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
	w.r.spans[w.stage] = append(w.r.spans[w.stage], span{w.from, now})
	if err == nil {
		w.r.done = append(w.r.done, Step{Name: w.step, Started: w.from, Completed: now})
	}
	w.emit(e)
}
