// Package fault gives an error a kind, a remedy and an exit code.
//
// What comes in is an error that some stage met; what goes out is the same
// error, wrapped, with the kind that decides the exit code and a sentence that
// says what the user can do. Every stage uses it, and it imports no other
// package of the project.
package fault

import (
	"errors"
	"fmt"
	"syscall"
)

// Kind says whose turn it is to act: each kind has its own exit code.
type Kind int

// The kinds, in the order of their exit codes.
const (
	Internal     Kind = iota // a defect of nodesmith itself
	Usage                    // flags or arguments that make no sense
	BadSpec                  // the NodeImage or the lock file is wrong
	Unverifiable             // an input whose signature or digest does not hold
	MissingHost              // a program or permission that the host lacks
	Network                  // a mirror, proxy or remote engine did not answer
	NoSpace                  // a file system is full
	Engine                   // the build engine or a step in it failed
	Guest                    // a virtual machine booted from the image failed
	Contract                 // an image breaks the contract
	Remote                   // an infrastructure's API refused, or did not come back
	Different                // two images that were to be equal are not
	Interrupted              // Ctrl-C or SIGTERM
)

// kinds holds what users see of a kind: its name in messages and its exit code. A
// list and no map: programs that need neither do without it.
var kinds = [...]struct {
	name string
	exit int
}{
	Internal:     {"internal error", 1},
	Usage:        {"usage", 2},
	BadSpec:      {"invalid spec", 3},
	Unverifiable: {"unverifiable input", 4},
	MissingHost:  {"missing on this host", 5},
	Network:      {"network", 6},
	NoSpace:      {"no space left", 7},
	Engine:       {"build step failed", 8},
	Guest:        {"guest failed", 9},
	Contract:     {"image breaks the contract", 10},
	Remote:       {"infrastructure", 11},
	Different:    {"images differ", 12},
	Interrupted:  {"interrupted", 130},
}

// String returns the kind's name as messages print it.
func (k Kind) String() string { return kinds[k].name }

// ExitCode returns the process exit code for the kind.
func (k Kind) ExitCode() int { return kinds[k].exit }

// Error is an error of a known kind. Remedy may be empty when the message says
// all there is to do.
type Error struct {
	Kind   Kind
	Remedy string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Advice is the remedy, for programs that know this type by its methods alone
// (internal/stepmain).
func (e *Error) Advice() string { return e.Remedy }

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Err }

// New formats like fmt.Errorf (with %w) and gives the result a kind and a remedy.
func New(kind Kind, remedy, format string, args ...any) error {
	return &Error{Kind: kind, Remedy: remedy, Err: fmt.Errorf(format, args...)}
}

// NoSpaceOr returns err as a NoSpace fault if a full file system caused it,
// else err itself.
func NoSpaceOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return New(NoSpace, "free some space, or set XDG_CACHE_HOME to a larger file system", "%w", err)
	}
	return err
}

// KindOf returns the kind of the outermost Error in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// RemedyOf returns the first remedy in err's chain, or "".
func RemedyOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
	return ""
}
