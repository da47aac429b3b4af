// Package display shows what a build does.
//
// What comes in are events (internal/progress) as they happen; what goes out is a
// live view on a terminal, lines for people, or JSON for programs. A frame of the
// live view is a pure function of a model, a time and the terminal's size; it is
// drawn at most ten times a second, by one goroutine, so that a slow terminal holds
// up nothing. When a display is closed, nothing of a live view is left on the
// terminal. Memory grows with the number of running steps.
//
// It is not BuildKit's display because that knows neither stages nor work outside
// the engine, and takes each graph of a build for a build of its own.
package display

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/report"
)

// Display takes events, one after the other.
type Display interface {
	Event(e progress.Event)
	// Close ends it: afterwards nothing but messages is written. A second call does
	// nothing.
	Close()
}

// Quiet returns a display that shows nothing.
func Quiet() Display { return quiet{} }

type quiet struct{}

func (quiet) Event(progress.Event) {}
func (quiet) Close()               {}

// JSON returns a display that writes each event as a line of JSON, a
// report.ProgressEvent.
func JSON(w io.Writer) Display { return &documents{encoder: json.NewEncoder(w)} }

type documents struct{ encoder *json.Encoder }

func (d *documents) Event(e progress.Event) {
	_ = d.encoder.Encode(report.OfEvent(e)) // progress that can't be shown stops nothing
}

func (*documents) Close() {}

// Plain returns a display that writes a line when a step begins, when it ends, for
// each line that it writes, and now and then how far it is, with the time since began.
func Plain(w io.Writer, began time.Time) Display { return &plain{w, began, map[string]begun{}} }

type plain struct {
	w       io.Writer
	began   time.Time
	running map[string]begun // by ID
}

// begun is when a step began, and when its bytes were last told.
type begun struct{ at, told time.Time }

// plainRefresh is the least time between two lines about one step's bytes.
const plainRefresh = 15 * time.Second

// said are the types of events that are lines of plain progress.
var said = map[progress.Type]string{
	progress.Started: "start", progress.Finished: "done", progress.Cached: "cached",
	progress.Failed: "failed", progress.Canceled: "ended", progress.Output: "", progress.Message: "", progress.Transferred: "",
}

// due keeps account of running steps, and says whether an event is worth a line.
func (p *plain) due(e progress.Event) bool {
	switch e.Type {
	case progress.Started:
		p.running[e.ID] = begun{e.Time, e.Time}
		return !e.Input()
	case progress.Transferred:
		b, known := p.running[e.ID]
		if !known || e.Time.Sub(b.told) < plainRefresh {
			return false
		}
		p.running[e.ID] = begun{b.at, e.Time}
	case progress.Cached, progress.Finished, progress.Failed, progress.Canceled:
		delete(p.running, e.ID)
	case progress.Output, progress.Message:
	}
	return true
}

func (p *plain) Event(e progress.Event) {
	word, told := said[e.Type]
	began := p.running[e.ID].at
	if !told || !p.due(e) {
		return
	}
	text := e.Step
	switch e.Type {
	case progress.Message:
		text = e.Text
	case progress.Output:
		text += " | " + e.Text
	case progress.Failed:
		text += fmt.Sprintf(" after %s: %s", Seconds(e.Seconds), e.Error)
	case progress.Canceled:
		text += fmt.Sprintf(" after %s, before its end", Seconds(e.Seconds))
	case progress.Finished:
		text += " in " + Seconds(e.Seconds)
		if e.CurrentBytes > 0 {
			text += ", " + Bytes(e.CurrentBytes)
		}
	case progress.Transferred:
		text += " | " + far(e.CurrentBytes, e.TotalBytes, e.Time.Sub(began))
	case progress.Started, progress.Cached:
	}
	_, _ = fmt.Fprintf(p.w, "%8s  %-6s  %s\n", Duration(e.Time.Sub(p.began)), word, text)
}

func (*plain) Close() {}

// Terminal is what a live view is drawn on.
type Terminal interface {
	io.Writer
	// Size is what it is now.
	Size() (Size, error)
}

// refresh is the time between two frames.
const refresh = 100 * time.Millisecond

// Live returns a display that shows the model, as it is now and will be by events,
// on a terminal. When ctx ends it says that the build is ending.
func Live(ctx context.Context, on Terminal, m *Model, colour bool) Display {
	l := &live{terminal: on, colour: colour, model: m, closed: make(chan struct{}), done: make(chan struct{})}
	go l.run(ctx)
	return l
}

type live struct {
	terminal Terminal
	colour   bool

	mu       sync.Mutex
	model    *Model
	messages []string // that were not written yet

	once         sync.Once
	closed, done chan struct{}
}

func (l *live) Event(e progress.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.model.Apply(e)
	if e.Type != progress.Message {
		return
	}
	select {
	case <-l.done: // what is said once the view is gone
		_, _ = io.WriteString(l.terminal, e.Text+"\n")
	default:
		l.messages = append(l.messages, e.Text)
	}
}

func (l *live) Close() {
	l.once.Do(func() { close(l.closed) })
	<-l.done
}

// run draws until the display is closed.
func (l *live) run(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	s := &screen{terminal: l.terminal}
	for {
		select {
		case <-l.closed:
			s.draw(l.take(), nil, Size{})
			return
		case now := <-ticker.C:
			size, err := l.terminal.Size()
			if err != nil { // it went away
				continue
			}
			l.mu.Lock()
			l.model.Ending = ctx.Err() != nil
			frame := l.model.Frame(now, size, l.colour)
			l.mu.Unlock()
			s.draw(l.take(), frame, size)
		}
	}
}

// take returns the messages that were not written yet.
func (l *live) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	messages := l.messages
	l.messages = nil
	return messages
}
