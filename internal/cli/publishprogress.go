package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/publish"
)

// refreshes are how often progress is shown: live on a terminal, in lines
// elsewhere.
const (
	liveRefresh  = 500 * time.Millisecond
	plainRefresh = 15 * time.Second
)

// publishProgress shows how plans are carried out: bytes, rate and time left for
// each region of each place.
type publishProgress struct {
	w    io.Writer
	live bool

	mu    sync.Mutex
	lanes []*lane
	drawn int // lines of the live display
	stop  chan struct{}
	done  chan struct{}
}

// lane is one region of one place.
type lane struct {
	title       string
	total, sent int64
	begun       time.Time // of the first byte
	step        string
}

// newPublishProgress starts the display; close ends it.
func newPublishProgress(w io.Writer, mode string) *publishProgress {
	p := &publishProgress{w: w, stop: make(chan struct{}), done: make(chan struct{})}
	if mode == progressQuiet {
		p.w = io.Discard
	}
	_, terminal := terminalOf(w)
	p.live = terminal && mode == progressAuto || mode == progressTTY
	refresh := plainRefresh
	if p.live {
		refresh = liveRefresh
	}
	go func() {
		defer close(p.done)
		ticker := time.NewTicker(refresh)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.mu.Lock()
				p.draw()
				p.mu.Unlock()
			}
		}
	}()
	return p
}

// close ends the display. A second call does nothing.
func (p *publishProgress) close() {
	p.mu.Lock()
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.mu.Unlock()
	<-p.done
}

// of returns the reporter of a plan.
func (p *publishProgress) of(plan *publish.Plan) publish.Reporter {
	r := &placeProgress{display: p, place: plan.Place, lanes: map[string]*lane{}}
	for _, step := range plan.Steps {
		l := r.lanes[step.Region]
		if l == nil {
			l = &lane{title: strings.TrimSpace(plan.Place + " " + step.Region)}
			r.lanes[step.Region] = l
			p.lanes = append(p.lanes, l)
		}
		l.total += step.Bytes
	}
	return r
}

// draw shows all lanes that have sent something. The lock is held.
func (p *publishProgress) draw() {
	var b strings.Builder
	if p.live && p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", p.drawn)
	}
	p.drawn = 0
	for _, l := range p.lanes {
		if l.step == "" || !p.live && l.sent == 0 {
			continue
		}
		b.WriteString(l.line(time.Now()) + "\n")
		p.drawn++
	}
	_, _ = io.WriteString(p.w, b.String()) // progress that can't be shown stops nothing
}

// line is what a lane looks like.
func (l *lane) line(now time.Time) string {
	text := l.title + ": " + l.step
	if l.sent == 0 || l.total == 0 {
		return text
	}
	text += fmt.Sprintf("  %s of %s", display.Bytes(l.sent), display.Bytes(max(l.total, l.sent)))
	seconds := now.Sub(l.begun).Seconds()
	if seconds < 1 {
		return text
	}
	rate := float64(l.sent) / seconds
	left := time.Duration(float64(max(l.total-l.sent, 0)) / rate * float64(time.Second))
	return text + fmt.Sprintf("  %s/s  %v left", display.Bytes(int64(rate)), left.Round(time.Second))
}

// say writes a line that stays. The lock is held.
func (p *publishProgress) say(format string, args ...any) {
	if p.live && p.drawn > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// placeProgress is the reporter of one place.
type placeProgress struct {
	display *publishProgress
	place   string
	lanes   map[string]*lane
}

func (r *placeProgress) with(step *publish.Step, do func(*lane)) {
	r.display.mu.Lock()
	defer r.display.mu.Unlock()
	do(r.lanes[step.Region])
}

// Begin says what begins.
func (r *placeProgress) Begin(step *publish.Step) {
	r.with(step, func(l *lane) {
		l.step = fmt.Sprintf("%s %s", step.Action, step.Kind)
		if !r.display.live {
			r.display.say("%s: %s %s", l.title, l.step, step.Name)
		}
	})
}

// End says how it ended.
func (r *placeProgress) End(step *publish.Step, err error) {
	r.with(step, func(l *lane) {
		l.step = ""
		if err == nil {
			r.display.say("%s: %s %s %s: done", l.title, step.Action, step.Kind, step.Name)
		}
	})
}

// Sent counts.
func (r *placeProgress) Sent(step *publish.Step, n int64) {
	r.with(step, func(l *lane) {
		if l.begun.IsZero() {
			l.begun = time.Now()
		}
		l.sent += n
	})
}

// Retry says what failed.
func (r *placeProgress) Retry(step *publish.Step, err error, wait time.Duration) {
	r.with(step, func(l *lane) {
		r.display.say("%s: %s %s: again in %v: %v", l.title, step.Action, step.Kind, wait.Round(100*time.Millisecond), err)
	})
}
