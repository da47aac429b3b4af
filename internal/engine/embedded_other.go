//go:build !linux

package engine

import (
	"context"
	"runtime"

	"nodesmith.dev/nodesmith/internal/fault"
)

// embedded says that there is none: steps are Linux programs.
func embedded(context.Context, Options) (connection, error) {
	return connection{}, fault.New(fault.MissingHost,
		"name a BuildKit on Linux with --engine, e.g. docker-container://NAME or tcp://HOST:PORT (docs/engines.md)",
		"on %s nodesmith has no build engine of its own: steps run in Linux containers", runtime.GOOS)
}
