// Command step-disk assembles a disk from a node's tree, inside the build
// engine.
package main

import (
	"context"
	"os"
	"time"

	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-disk", map[string]stepmain.Verb{"assemble": stepmain.Of(assemble)})
}

func assemble(ctx context.Context, config disk.Config, epoch time.Time) error {
	return disk.Assemble(ctx, &config, epoch, os.Stdout)
}
