package report

import (
	"nodesmith.dev/nodesmith/internal/progress"
)

// ProgressKind is the kind of a line of --progress json.
const ProgressKind = "ProgressEvent"

// The types of the last event, besides those of steps (progress.Types).
const (
	Succeeded progress.Type = "succeeded"
	Errored   progress.Type = "error"
)

// Progress is a line of --progress json: what happened in a step, or at last how
// the command ended.
type Progress struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	progress.Event
	// Remedy is what to do about the error, ErrorKind its kind, and ExitCode that of
	// the process.
	Remedy    string `json:"remedy,omitempty"`
	ErrorKind string `json:"errorKind,omitempty"`
	ExitCode  int    `json:"exitCode,omitempty"`
}

// OfEvent is the document of an event.
func OfEvent(e progress.Event) Progress {
	return Progress{APIVersion: APIVersion, Kind: ProgressKind, Event: e}
}
