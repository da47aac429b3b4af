// Package steps holds the build graph's own programs, cmd/step-NAME, as they
// were built beside this one: static, reproducible, one per family of steps.
// Each one's digest is part of its own steps' cache keys and of no others.
package steps

import (
	"embed"
	"fmt"
	"io/fs"

	"nodesmith.dev/nodesmith/internal/bundle"
)

// bin is filled by `make build` (scripts/build.sh) before nodesmith itself is
// compiled.
//
//go:embed all:bin
var bin embed.FS

// Program returns the step program of that name as a bundle has it: packages,
// install, golang, images, manifest, scripts, node, disk, pack.
func Program(name string) (bundle.File, error) {
	path := "bin/step-" + name
	if _, err := fs.Stat(bin, path); err != nil {
		return bundle.File{}, fmt.Errorf("this nodesmith was compiled without its step programs; build it with `make build`: %w", err)
	}
	return bundle.File{Name: "step", Mode: 0o755, Path: path, FS: bin}, nil
}
