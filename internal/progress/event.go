package progress

import (
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/bundle"
)

// Type says what happened.
type Type string

// The types of events.
const (
	// Started: a step began to run, or one of its inputs to be read.
	Started Type = "started"
	// Output: a step wrote a line.
	Output Type = "output"
	// Transferred: so much of a step's bytes is done.
	Transferred Type = "transferred"
	// Finished: a step ran to its end.
	Finished Type = "finished"
	// Cached: the result of a step was there.
	Cached Type = "cached"
	// Failed: a step ended without a result.
	Failed Type = "failed"
	// Canceled: a step was ended before its end, because another failed or the user
	// said so.
	Canceled Type = "canceled"
	// Message: something worth a line that is no step.
	Message Type = "message"
)

// Types lists all of them.
func Types() []Type {
	return []Type{Started, Output, Transferred, Finished, Cached, Failed, Canceled, Message}
}

// Event is one thing that happened. What its type does not need is zero.
type Event struct {
	Time time.Time `json:"time"`
	Type Type      `json:"event"`
	// ID tells a step from others of the same title.
	ID string `json:"id,omitempty"`
	// Step is the step's title, Stage the stage that it belongs to, if any.
	Step  string `json:"step,omitempty"`
	Stage string `json:"stage,omitempty"`
	// Seconds is how long the step ran.
	Seconds float64 `json:"seconds,omitempty"`
	// Stream is where the step wrote the line: stdout or stderr.
	Stream string `json:"stream,omitempty"`
	// Text is a line of output, without what only a terminal would understand, or
	// a message.
	Text string `json:"text,omitempty"`
	// CurrentBytes of TotalBytes are done; the total is 0 where nobody knows it.
	CurrentBytes int64 `json:"currentBytes,omitempty"`
	TotalBytes   int64 `json:"totalBytes,omitempty"`
	// Error is why the step failed.
	Error string `json:"error,omitempty"`
}

// Input says whether the step only brings what others use.
func (e Event) Input() bool { return strings.HasPrefix(e.Step, bundle.Prefix) }
