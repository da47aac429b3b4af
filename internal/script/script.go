// Package script runs one of a spec's scripts in the tree that it changes.
//
// What comes in is a script's file and its environment, in a container whose
// root is the tree; what goes out is the tree as the script left it. No service
// starts meanwhile. What the script prints goes to the step's output, so that
// the last lines of one that fails are in the error of the build.
package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"nodesmith.dev/nodesmith/internal/deb/servicepolicy"
	"nodesmith.dev/nodesmith/internal/fault"
)

// Config is one script.
type Config struct {
	// Name and Point are what the spec calls the script and its point.
	Name  string `json:"name"`
	Point string `json:"point"`
	// File is the script.
	File string `json:"file"`
	// Environment are the variables ("KUBERNETES_VERSION=v1.34.0") that the
	// script gets besides those that every one gets.
	Environment []string `json:"environment,omitempty"`
}

// common is what every script finds in its environment, besides what the engine
// sets (PATH, SOURCE_DATE_EPOCH, TZ).
var common = []string{
	"HOME=/root", "LC_ALL=C.UTF-8",
	"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
	// systemctl enable makes links and asks no systemd (systemctl(1)).
	"SYSTEMD_OFFLINE=1",
}

// Run runs the script in the tree at root, which is "/" in a build.
func Run(ctx context.Context, config Config, root string) (err error) {
	args, err := command(config.File)
	if err != nil {
		return err
	}
	if err := servicepolicy.Forbid(root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servicepolicy.Allow(root)) }()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), common...), config.Environment...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A process that the script left behind may hold the output open.
	cmd.WaitDelay = 5 * time.Second
	return explain(config, args, cmd.Run())
}

// command returns how the file is run: by what its first line names, else by a
// shell that stops at the first command that fails.
func command(file string) ([]string, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close() // only read from
	start, err := bufio.NewReader(opened).Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if string(start) == "#!" {
		return []string{file}, nil
	}
	return []string{"/bin/sh", "-e", file}, nil
}

// explain says which script failed and how.
func explain(config Config, args []string, err error) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("script %q (%s)", config.Name, config.Point)
	exit := new(exec.ExitError)
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return fault.New(fault.Engine, "", "%s ended with exit code %d", what, exit.ExitCode())
	case errors.As(err, &exit):
		return fault.New(fault.Engine, "", "%s was ended: %w", what, err)
	case errors.Is(err, exec.ErrWaitDelay):
		return fault.New(fault.Engine, "", "%s left a process behind that writes to its output", what)
	}
	return fault.New(fault.Engine, "", "%s can't be run as %q (is the interpreter of its first line in the tree?): %w", what, args, err)
}
