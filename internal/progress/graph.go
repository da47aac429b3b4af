package progress

import (
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/bundle"
)

const (
	// leastRead is the size of an input, in bytes, from which on it is worth an
	// event that it is read: a build has dozens of configurations of some KiB.
	leastRead = 1 << 20
	// between is the least time between two events about one step's bytes.
	between = 250 * time.Millisecond
	// extracting begins the engine's name for unpacking what it has read.
	extracting = "extracting "
)

// streamNames are those of a step's outputs, as client.VertexLog numbers them.
var streamNames = map[int]string{1: "stdout", 2: "stderr"}

// stream is one output of a step.
type stream struct {
	step   digest.Digest
	number int
}

// read is an input, or some bytes of a step, on the way.
type read struct {
	total, current int64
	told           time.Time
	done           bool
	unpacking      bool
}

// Add takes an event of the engine. What steps wrote comes before how they ended.
func (r *Recorder) Add(event *client.SolveStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range event.Vertexes {
		r.begun(v)
	}
	for _, s := range event.Statuses {
		r.status(s)
	}
	for _, l := range event.Logs {
		r.log(l)
	}
	for _, v := range event.Vertexes {
		r.ended(v)
	}
}

// begun notes that a step runs.
func (r *Recorder) begun(v *client.Vertex) {
	s := r.steps[v.Digest]
	if s == nil {
		s = &Step{Digest: v.Digest, Name: v.Name}
		r.steps[v.Digest] = s
	}
	if v.Started == nil || s.Ran() { // Ran: by an earlier graph, this one finds it in the cache
		return
	}
	known := s.Started.Equal(*v.Started)
	s.Started = *v.Started
	// What comes out of a cache elsewhere is found first, and brought then: under
	// the step's name, as if that ran.
	s.Cached = s.Cached || v.Cached
	if !known && !s.Cached && !s.Input() {
		r.emit(s, Event{Time: s.Started, Type: Started})
	}
}

// ended notes how a step ended.
func (r *Recorder) ended(v *client.Vertex) {
	s := r.steps[v.Digest]
	if v.Completed == nil || v.Started == nil || s.Ran() {
		return
	}
	known := s.Completed.Equal(*v.Completed) || s.Cached && !s.Completed.IsZero()
	s.Completed, s.Cached, s.Error = *v.Completed, s.Cached && v.Error == "", v.Error
	canceled := strings.Contains(s.Error, "context canceled")
	if known || s.Input() && (s.Error == "" || canceled) {
		return
	}
	for number := range streamNames {
		r.lines(s, stream{v.Digest, number}, (*lines).flush)
	}
	end := Event{Time: s.Completed, Type: Finished, Seconds: s.Completed.Sub(s.Started).Seconds()}
	switch {
	case s.Cached:
		end.Type, end.Seconds = Cached, 0
	case canceled:
		end.Type = Canceled
	case s.Error != "":
		end.Type, end.Error = Failed, sentence(s.Error)
	}
	r.emit(s, end)
}

// log passes a step's output on, line by line.
func (r *Recorder) log(l *client.VertexLog) {
	if s := r.steps[l.Vertex]; s != nil {
		r.lines(s, stream{l.Vertex, l.Stream}, func(of *lines) []string { return of.add(l.Data) })
	}
}

// lines emits what take gets out of a stream.
func (r *Recorder) lines(s *Step, of stream, take func(*lines) []string) {
	l := r.output[of]
	if l == nil {
		l = &lines{}
		r.output[of] = l
	}
	for _, text := range take(l) {
		r.emit(s, Event{Time: time.Now(), Type: Output, Stream: streamNames[of.number], Text: text})
	}
	if len(l.rest) == 0 {
		delete(r.output, of)
	}
}

// status passes on how many bytes of an input were read, or of a result written.
func (r *Recorder) status(status *client.VertexStatus) {
	s := r.steps[status.Vertex]
	if s == nil {
		return
	}
	if !s.Input() {
		if status.Current > 0 {
			r.emit(s, Event{Time: status.Timestamp, Type: Transferred, CurrentBytes: status.Current, TotalBytes: status.Total})
		}
		return
	}
	id, unpack := strings.CutPrefix(status.ID, extracting)
	blob, err := digest.Parse(id)
	if err != nil || r.options.StageOf(strings.TrimPrefix(s.Name, bundle.Prefix)) == "" {
		return
	}
	of := r.reads[blob]
	switch {
	case unpack && of != nil:
		r.unpacked(s, of, status)
	case unpack || status.Total < leastRead:
	case of == nil:
		r.reads[blob] = &read{total: status.Total}
		r.emit(s, Event{Time: status.Timestamp, Type: Started})
		fallthrough
	default:
		r.transferred(s, r.reads[blob], status)
	}
}

// transferred says how much of an input was read.
func (r *Recorder) transferred(s *Step, of *read, status *client.VertexStatus) {
	if of.done || status.Current < of.current {
		return
	}
	of.current = status.Current
	if status.Completed != nil {
		of.done = true
		seconds := 0.0
		if status.Started != nil {
			seconds = status.Completed.Sub(*status.Started).Seconds()
		}
		r.emit(s, Event{Time: *status.Completed, Type: Finished, Seconds: seconds, CurrentBytes: of.current, TotalBytes: of.total})
		return
	}
	if status.Timestamp.Sub(of.told) >= between {
		of.told = status.Timestamp
		r.emit(s, Event{Time: status.Timestamp, Type: Transferred, CurrentBytes: of.current, TotalBytes: of.total})
	}
}

// unpacked says that what was read is unpacked: a step of its own.
func (r *Recorder) unpacked(s *Step, of *read, status *client.VertexStatus) {
	if of.unpacking == (status.Completed == nil) { // told already
		return
	}
	of.unpacking = status.Completed == nil
	event := Event{
		Time: status.Timestamp, Type: Started, ID: string(s.Digest) + "/unpack",
		Step: s.Name + ": unpack", Stage: r.stage(s),
	}
	if status.Completed != nil {
		event.Time, event.Type = *status.Completed, Finished
		if status.Started != nil {
			event.Seconds = event.Time.Sub(*status.Started).Seconds()
		}
	}
	r.options.Emit(event)
}

func (r *Recorder) stage(s *Step) string {
	return r.options.StageOf(strings.TrimPrefix(s.Name, bundle.Prefix))
}

// emit passes an event about a step on.
func (r *Recorder) emit(s *Step, e Event) {
	e.ID, e.Step, e.Stage = string(s.Digest), s.Name, r.stage(s)
	r.options.Emit(e)
}
