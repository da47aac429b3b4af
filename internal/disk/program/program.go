// Package program runs another program as part of a step: in an environment
// that holds nothing of the host, and with its last words in the error.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// searchPath is where Debian has programs that its packages install.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// graceAfterKill is how long output pipes may stay open after the program was
// killed.
const graceAfterKill = time.Second

// Run runs the program with the given variables beside a fixed base
// environment, and kills it when ctx ends. Its output is shown only in errors;
// a program that is not there is fault.MissingHost.
func Run(ctx context.Context, variables []string, name string, args ...string) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{"PATH=" + searchPath, "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/nonexistent"}, variables...)
	cmd.WaitDelay = graceAfterKill
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%s: %w", name, cause)
		}
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(output.String()))
	}
	return nil
}

// find looks in searchPath, whatever PATH the caller has: a user's PATH often
// lacks the sbin directories.
func find(name string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find program %s: %w", name, err)
		}
	}
	return "", fault.New(fault.MissingHost, "add the package that has it to the tools tree",
		"program %s is not in %s", name, searchPath)
}
