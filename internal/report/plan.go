package report

import "nodesmith.dev/nodesmith/internal/engine"

// Plan is what plan --json prints.
type Plan struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"` // metadata.name
	// Values are those that the build goes by.
	Values []Value `json:"values"`
	Lock   Lock    `json:"lock"`
	// Steps, Downloads and Files are what the build would do; without a lock that
	// fits nothing is known of it, and they are empty.
	Steps     []Step        `json:"steps"`
	Downloads []Download    `json:"downloads"`
	Files     []PlannedFile `json:"files"`
	Sum       Sum           `json:"sum"`
}

// Value is a value and where it came from.
type Value struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	// Origin is spec, flag, default, distribution, infrastructure, release table,
	// lock or machine.
	Origin string `json:"origin"`
	// Where is the place: a file with line and column, a flag, a row of a table.
	Where string `json:"where,omitempty"`
}

// The origins of values that a spec has.
const (
	FromSpec    = "spec"
	FromFlag    = "flag"
	FromDefault = "default"
)

// Lock says from which lock the plan was made.
type Lock struct {
	State LockState `json:"state"`
	// Path is that of the lock, or where there is none of where it would be.
	Path string `json:"path"`
	// Command makes a lock that fits; empty if there is one.
	Command string `json:"command,omitempty"`
}

// LockState says whether a lock fits.
type LockState string

// The states of locks.
const (
	LockFits    LockState = "fits"
	LockMissing LockState = "missing"
	LockStale   LockState = "stale"
)

// Step is a step of the build to come.
type Step struct {
	Stage string           `json:"stage,omitempty"`
	Name  string           `json:"name"`
	State engine.StepState `json:"state"`
	// DependsOn names what decides about a step whose state is depends.
	DependsOn []string `json:"dependsOn,omitempty"`
	// LastSeconds is how long the step took when it last ran on this machine.
	LastSeconds *float64 `json:"lastSeconds,omitempty"`
	// LastSame says that it had the same inputs then.
	LastSame bool `json:"lastSame,omitempty"`
}

// Download is a file that the build would fetch.
type Download struct {
	Input string `json:"input"`
	Name  string `json:"name"`
	// SizeBytes is left out if nobody could say.
	SizeBytes *int64 `json:"sizeBytes,omitempty"`
}

// PlannedFile is a file in the output folder.
type PlannedFile struct {
	Infrastructure string `json:"infrastructure"`
	Format         string `json:"format"`
	Path           string `json:"path"`
	// Kept says that it is there and stays as it is.
	Kept bool `json:"kept"`
}

// Sum counts steps by their states, and what is fetched.
type Sum struct {
	Steps map[engine.StepState]int `json:"steps"`
	// LastSeconds adds up what the steps took when they last ran that run or may
	// run. Steps run beside each other.
	LastSeconds float64 `json:"lastSeconds"`
	Downloads   int     `json:"downloads"`
	// DownloadBytes is the size of those downloads of which it is known.
	DownloadBytes int64 `json:"downloadBytes"`
	UnknownSizes  int   `json:"unknownSizes,omitempty"`
}

// AddUp fills in the sum.
func (p *Plan) AddUp() {
	p.Sum = Sum{Steps: map[engine.StepState]int{}, Downloads: len(p.Downloads)}
	for _, s := range p.Steps {
		p.Sum.Steps[s.State]++
		if s.LastSeconds != nil && (s.State == engine.Runs || s.State == engine.Depends) {
			p.Sum.LastSeconds += *s.LastSeconds
		}
	}
	for _, d := range p.Downloads {
		if d.SizeBytes == nil {
			p.Sum.UnknownSizes++
			continue
		}
		p.Sum.DownloadBytes += *d.SizeBytes
	}
}
