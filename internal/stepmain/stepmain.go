// Package stepmain is the frame of the build graph's step programs: a verb, a
// JSON file and an epoch in, plain progress on stdout, one error on stderr. It
// imports nothing of the project: what changes here changes every step, and
// compiles Kubernetes anew.
package stepmain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// epochVariable holds seconds since 1970, the only time that a step gets
// (https://reproducible-builds.org/docs/source-date-epoch/).
const epochVariable = "SOURCE_DATE_EPOCH"

// Verb runs one verb of a step on the JSON text of its configuration. Nothing
// that it writes is newer than epoch.
type Verb func(ctx context.Context, config []byte, epoch time.Time) error

// Of makes a Verb of a function with a typed configuration. Unknown fields are
// errors, since a step and the graph that calls it are built together.
func Of[Config any](run func(context.Context, Config, time.Time) error) Verb {
	return func(ctx context.Context, data []byte, epoch time.Time) error {
		var config Config
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&config); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			return errors.New("configuration: something follows it")
		}
		return run(ctx, config, epoch)
	}
}

// Main runs `NAME VERB CONFIG.json` and exits.
func Main(name string, verbs map[string]Verb) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, name, verbs, os.Args[1:], os.Getenv(epochVariable))
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if advice := adviceIn(err); advice != "" {
		fmt.Fprintf(os.Stderr, "  -> %s\n", advice)
	}
	os.Exit(1)
}

// adviceIn returns the first advice in the chain of err, "" for none. Errors of
// package fault have one.
func adviceIn(err error) string {
	for err != nil {
		advised, ok := errors.AsType[interface {
			error
			Advice() string
		}](err)
		if !ok {
			return ""
		}
		if advice := advised.Advice(); advice != "" {
			return advice
		}
		err = errors.Unwrap(advised)
	}
	return ""
}

// Run is Main without the process around it.
func Run(ctx context.Context, name string, verbs map[string]Verb, args []string, epoch string) error {
	if len(args) != 2 || verbs[args[0]] == nil {
		return fmt.Errorf("usage: %s %s CONFIG.json", name, strings.Join(slices.Sorted(maps.Keys(verbs)), "|"))
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("%s is %q, not seconds since 1970", epochVariable, epoch)
	}
	config, err := os.ReadFile(args[1])
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	// The mask that systemd gives to programs, whoever starts the step.
	syscall.Umask(0o022)
	return verbs[args[0]](ctx, config, time.Unix(seconds, 0).UTC())
}
