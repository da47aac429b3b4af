// Command step-golang unpacks a Go toolchain and compiles programs with it,
// inside the build engine.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/mod/module"

	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-golang", map[string]stepmain.Verb{
		"toolchain": stepmain.Of(toolchain),
		"build":     stepmain.Of(compile),
	})
}

func toolchain(_ context.Context, config golang.ToolchainConfig, epoch time.Time) error {
	m := module.Version{Path: config.Module.Path, Version: config.Module.Version}
	fmt.Println("unpacking", m)
	return golang.Unpack(config.Zip, m, config.Module.Sum, config.Out, epoch)
}

func compile(ctx context.Context, config golang.BuildConfig, epoch time.Time) error {
	return golang.Compile(ctx, config, epoch, os.Stdout)
}
