// Package steps holds the build graph's own programs, cmd/step-NAME, as they
// were built beside this one: static, reproducible, one per family of steps.
// Each one's digest is part of its own steps' cache keys and of no others.
package steps

import (
	"embed"
	"fmt"
)

// bin is filled by `make build` (scripts/build.sh) before nodesmith itself is
// compiled.
//
//go:embed all:bin
var bin embed.FS

// Program returns the step program of that name: packages, golang, images, manifest,
// scripts, node, disk, pack.
func Program(name string) ([]byte, error) {
	data, err := bin.ReadFile("bin/step-" + name)
	if err != nil {
		return nil, fmt.Errorf("this nodesmith was compiled without its step programs; build it with `make build`: %w", err)
	}
	return data, nil
}
