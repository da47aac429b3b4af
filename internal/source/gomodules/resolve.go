package gomodules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/lru"
	"nodesmith.dev/nodesmith/internal/scratch"
)

// resolve finds out which modules the component's programs are compiled from.
// It returns goMod as the go command wants it and the lines of go.sum, sorted.
//
// The go command itself answers: with an empty go.sum, "go list -deps" verifies
// every file that it reads by the checksum database and writes down just those.
// vouched are lines of go.sum that are trusted without the database. As the go
// command would keep all of them, needed or not, it then runs once more, without
// them and without a network.
func (l *locker) resolve(ctx context.Context, goCommand string, c golang.Component, goMod string, vouched []string) (string, []string, error) {
	work, err := scratch.New("", scratch.Prefix+"lock-")
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = work.Close() }() // the next one removes it else
	dir := work.Path()
	lru.Touch(downloads(l.cfg.Proxy.Dir))
	lru.Touch(filepath.Join(l.cfg.Proxy.Dir, goBuildDir))
	pass := func(sums []string, env []string) (mod string, lines []string, err error) {
		if err := writeModule(dir, goMod, sums); err != nil {
			return "", nil, err
		}
		for _, b := range c.Builds {
			if err := l.list(ctx, goCommand, dir, b, env); err != nil {
				return "", nil, err
			}
		}
		return readModule(dir)
	}
	mod, lines, err := pass(vouched, nil)
	if err != nil || len(vouched) == 0 {
		return mod, lines, err
	}
	verified, err := parseSums(lines)
	if err != nil {
		return "", nil, err
	}
	mod, lines, err = pass(nil, []string{"GOPROXY=off", "GOSUMDB=off"})
	if err != nil {
		return "", nil, err
	}
	used, err := parseSums(lines)
	if err != nil {
		return "", nil, err
	}
	for m, sum := range used {
		if verified[m] != sum {
			return "", nil, fault.New(fault.Unverifiable, "remove the cache directory and try again",
				"%s %s has checksum %s in the module cache, but %q was verified", m.Path, m.Version, sum, verified[m])
		}
	}
	return mod, lines, nil
}

// writeModule makes dir an empty main module.
func writeModule(dir, goMod string, goSum []string) error {
	var sums strings.Builder
	for _, line := range goSum {
		sums.WriteString(line + "\n")
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), []byte(goMod), 0o600),
		os.WriteFile(filepath.Join(dir, "go.sum"), []byte(sums.String()), 0o600))
}

// readModule returns what the go command made of the main module in dir.
func readModule(dir string) (goMod string, goSum []string, err error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", nil, err
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return "", nil, err
	}
	return string(mod), sumLines(sum), nil
}

// sumLines splits a go.sum file, sorted.
func sumLines(data []byte) []string {
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(lines)
	return lines
}

// list loads the packages of a build and everything that they import.
func (l *locker) list(ctx context.Context, goCommand, dir string, b golang.Build, env []string) error {
	args := []string{"list", "-deps", "-mod=mod", "-modcacherw", "-tags=" + strings.Join(b.Tags, ","), "-f={{.ImportPath}}"}
	cmd := exec.CommandContext(ctx, goCommand, append(args, b.Packages...)...)
	cmd.Dir = dir
	cmd.Env = append(l.environment(dir, b.CGO), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return listError(err, stderr.String())
	}
	return nil
}

// environment is all that the go command sees: its settings and cfg.Env.
func (l *locker) environment(dir string, cgo bool) []string {
	sumDB := l.cfg.Proxy.SumDB
	if sumDB == "" {
		sumDB = "sum.golang.org"
	}
	cgoEnabled := "0"
	if cgo {
		cgoEnabled = "1"
	}
	return append(slices.Clone(l.cfg.Env),
		"HOME="+dir,
		"GOPATH="+l.cfg.Proxy.Dir,
		"GOMODCACHE="+l.client.ModCache(),
		"GOCACHE="+filepath.Join(l.cfg.Proxy.Dir, goBuildDir),
		"GOPROXY="+l.client.ProxyList(),
		"GOSUMDB="+sumDB,
		"GONOSUMDB="+l.cfg.Proxy.NoSumDB,
		"GOOS=linux",
		"GOARCH="+l.arch,
		"CGO_ENABLED="+cgoEnabled,
		"GOTOOLCHAIN=local",
		"GOENV=off",
		"GOFLAGS=",
		"GOWORK=off",
		"GOTELEMETRY=off",
	)
}

// listError says what the go command said, without its progress.
func listError(err error, stderr string) error {
	var said []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "go: downloading ") {
			said = append(said, line)
		}
	}
	text := strings.Join(said, "\n")
	for _, s := range symptoms {
		if strings.Contains(text, s.text) {
			return fault.New(s.kind, s.remedy, "go list: %w:\n%s", err, text)
		}
	}
	return fmt.Errorf("go list: %w:\n%s", err, text)
}

// symptoms are what the go command prints for causes that the user can act on,
// the most certain first.
var symptoms = []struct {
	text   string
	kind   fault.Kind
	remedy string
}{
	{"SECURITY ERROR", fault.Unverifiable, remedyProxy},
	{"checksum mismatch", fault.Unverifiable, remedyProxy},
	{"no space left on device", fault.NoSpace, "free some space or choose another cache directory"},
	{"dial tcp", fault.Network, remedyNetwork},
	{"i/o timeout", fault.Network, remedyNetwork},
	{"TLS handshake", fault.Network, remedyNetwork},
	{": 50", fault.Network, remedyNetwork}, // 500 to 509: the proxy's own trouble
	{": EOF", fault.Network, remedyNetwork},
	{"verifying ", fault.Unverifiable, "allow the module by name in the spec if you trust the proxy for it"},
}

const (
	remedyProxy   = "do not use this proxy until it is known why it serves other content"
	remedyNetwork = "check the network and the Go proxy that is configured"
)

// parseSums reads lines of go.sum. Keys are as there: the version of a go.mod
// file's line ends in "/go.mod".
func parseSums(lines []string) (map[module.Version]string, error) {
	out := make(map[module.Version]string, len(lines))
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasPrefix(f[2], "h1:") {
			return nil, fmt.Errorf("%q is not a line of go.sum", line)
		}
		m := module.Version{Path: f[0], Version: f[1]}
		if err := module.Check(m.Path, strings.TrimSuffix(m.Version, "/go.mod")); err != nil {
			return nil, fmt.Errorf("%q in go.sum: %w", line, err)
		}
		if old, ok := out[m]; ok && old != f[2] {
			return nil, fault.New(fault.Unverifiable, "", "go.sum has two checksums for %s", m)
		}
		out[m] = f[2]
	}
	return out, nil
}

// installToolchain unpacks a toolchain's zip file below the cache directory,
// once, and returns the path of its go command.
func installToolchain(cache, zipFile string, m module.Version, sum string) (string, error) {
	home := filepath.Join(cache, toolchainsDir, m.Version)
	command := filepath.Join(home, "bin", "go")
	if _, err := os.Stat(home); err == nil {
		lru.Touch(home)
		return command, nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(home), unfinished)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	tree := filepath.Join(tmp, "go")
	if err := golang.Unpack(zipFile, m, sum, tree, time.Time{}); errors.Is(err, golang.ErrChecksum) {
		return "", fault.New(fault.Unverifiable, "remove the file and run this again: it is downloaded anew", "%s: %w", zipFile, err)
	} else if err != nil {
		return "", err
	}
	// Another process may have been faster; its tree is as good.
	if err := os.Rename(tree, home); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return command, nil
}
