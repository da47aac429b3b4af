// Command step-scripts runs a spec's script in the tree that it changes, inside
// the build engine.
package main

import (
	"context"
	"time"

	"nodesmith.dev/nodesmith/internal/script"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-scripts", map[string]stepmain.Verb{"run": stepmain.Of(run)})
}

func run(ctx context.Context, config script.Config, _ time.Time) error {
	return script.Run(ctx, config, "/")
}
