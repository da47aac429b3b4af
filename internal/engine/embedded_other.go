//go:build !linux

package engine

import (
	"context"
	"runtime"

	"nodesmith.dev/nodesmith/internal/fault"
)

// embedded is never called: hostHas fails before.
func embedded(context.Context, Options, <-chan struct{}) (connection, error) {
	return connection{}, hostHas()
}

// hostHas says that there is no engine here: steps are Linux programs.
func hostHas() error {
	return fault.New(fault.MissingHost,
		"name a BuildKit on Linux with --engine, e.g. docker-container://NAME or tcp://HOST:PORT (docs/engines.md)",
		"on %s nodesmith has no build engine of its own: steps run in Linux containers", runtime.GOOS)
}
