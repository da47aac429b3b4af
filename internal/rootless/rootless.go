// Package rootless lets an ordinary user build.
//
// What comes in is the process of a user who is not root; what goes out is the
// same command in a user namespace (RootlessKit), where the user is root and the
// user's subordinate ids are the others: steps run in containers, and files have
// all owners, as if root had built. Where the host does not allow it, the error
// names everything that is missing and what to do about it.
package rootless

import (
	"errors"
	"os/exec"
)

// exit is the end of the command that ran in the namespace. It has printed all
// there is to say.
type exit struct{ code int }

func (exit) Error() string { return "the command in the user namespace failed" }

// ExitCode returns the exit code that a command in the namespace ended with, if
// err is Enter's and says so.
func ExitCode(err error) (int, bool) {
	e, ok := errors.AsType[exit](err)
	return e.code, ok
}

// ended makes an exit of the end of a process, which RootlessKit wraps once; other
// errors stay what they are, also those of programs that it runs itself (newuidmap).
func ended(err error) error {
	if err == nil {
		return exit{0}
	}
	//nolint:errorlint // how deep it lies tells whose end it is
	if failed, ok := errors.Unwrap(err).(*exec.ExitError); ok && failed.ExitCode() >= 0 {
		return exit{failed.ExitCode()}
	}
	return err
}
