//go:build unix

package golang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/module"
)

// Compile compiles the programs of cfg.Component into cfg.Out. They carry the
// time epoch, inside and outside. The compilers' messages and a line of
// progress for each run go to log.
func Compile(ctx context.Context, cfg BuildConfig, epoch time.Time, log io.Writer) (err error) {
	c, ok := Lookup(cfg.Component.Name)
	if !ok {
		return fmt.Errorf("component %q: this step does not know it", cfg.Component.Name)
	}
	if err := os.MkdirAll(cfg.Out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "nodesmith-build-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// "Downloading" is what the go command calls its reading of cfg.Modules.
	said := &filter{w: log, drop: "go: downloading "}
	defer func() { err = errors.Join(err, said.Close()) }()
	b := builder{cfg: cfg, epoch: epoch, work: work, log: said}
	if c.C != "" {
		err = b.compileC(ctx, c.C)
	} else {
		err = b.compileGo(ctx, c)
	}
	if err != nil {
		return err
	}
	return os.Chtimes(cfg.Out, epoch, epoch)
}

// builder is one run of Compile.
type builder struct {
	cfg   BuildConfig
	epoch time.Time
	work  string // scratch directory
	log   io.Writer
}

// compileGo writes the main module that the lock holds and runs the go command
// in it, with nothing but the locked modules in reach.
func (b builder) compileGo(ctx context.Context, c Component) error {
	main := filepath.Join(b.work, "main")
	bin := filepath.Join(b.work, "bin")
	tmp := filepath.Join(b.work, "tmp")
	for _, dir := range []string{main, bin, tmp} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	goSum := strings.Join(b.cfg.Component.GoSum, "\n") + "\n"
	if err := errors.Join(
		os.WriteFile(filepath.Join(main, "go.mod"), []byte(b.cfg.Component.GoMod), 0o644),
		os.WriteFile(filepath.Join(main, "go.sum"), []byte(goSum), 0o644),
	); err != nil {
		return err
	}
	for _, run := range c.Builds {
		env, err := b.environment(run)
		if err != nil {
			return err
		}
		names := make([]string, 0, len(run.Packages))
		for _, p := range run.Packages {
			names = append(names, Binary(p))
		}
		fmt.Fprintf(b.log, "compiling %s %s: %s\n", c.Name, b.cfg.Version, strings.Join(names, " "))
		args := append(b.arguments(run, bin), run.Packages...)
		if err := b.run(ctx, main, env, filepath.Join(b.cfg.Toolchain, "bin", "go"), args...); err != nil {
			return fmt.Errorf("compiling %s: %w", c.Name, err)
		}
		for _, p := range run.Packages {
			if err := b.install(filepath.Join(bin, defaultBinary(p)), Binary(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// arguments are those of "go build", without the packages.
func (b builder) arguments(run Build, bin string) []string {
	// An empty build ID: it would be a digest of the compiler's inputs, among
	// them the directory of the C compiler.
	ld := []string{"-s", "-w", "-buildid="}
	for _, s := range run.Stamps {
		ld = append(ld, "-X="+s.Variable+"="+s.expand(b.cfg.Version, b.epoch))
	}
	// What debuggers read is not in the programs, -s and -w say: made and not used, it
	// takes a seventh of the compiler's time and a quarter of its cache.
	args := []string{"build", "-gcflags=all=-dwarf=false", "-o=" + bin + string(filepath.Separator), "-trimpath", "-buildvcs=false",
		"-mod=readonly", "-modcacherw", "-tags=" + strings.Join(run.Tags, ",")}
	if run.CGO {
		args = append(args, "-buildmode=pie")
		ld = append(ld, "-linkmode=external", `"-extldflags=-static-pie -Wl,--build-id=none"`)
	}
	return append(args, "-ldflags="+strings.Join(ld, " "))
}

// environment is all that the go command and the C compiler see.
func (b builder) environment(run Build) ([]string, error) {
	proxy, err := filepath.Abs(b.cfg.Modules)
	if err != nil {
		return nil, err
	}
	env := append(b.baseEnvironment(),
		"GOPATH="+filepath.Join(b.work, "gopath"),
		"GOCACHE="+b.cfg.Cache,
		"GOTMPDIR="+filepath.Join(b.work, "tmp"),
		"GOPROXY=file://"+proxy,
		"GOSUMDB=off", // -mod=readonly holds everything against go.sum
		"GOOS=linux",
		"GOARCH="+b.cfg.Architecture,
		"GOTOOLCHAIN=local",
		"GOENV=off",
		"GOFLAGS=",
		"GOWORK=off",
		"GOTELEMETRY=off",
	)
	if !run.CGO {
		return append(env, "CGO_ENABLED=0"), nil
	}
	cc, err := compiler(b.cfg.Architecture)
	return append(env, "CGO_ENABLED=1", "CC="+cc), err
}

// baseEnvironment is what every program gets.
func (b builder) baseEnvironment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + b.work,
		"TMPDIR=" + b.work,
		"LC_ALL=C",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.epoch.Unix(), 10),
	}
}

// compileC compiles the C file source of the component's module, as
// build/pause/Makefile of Kubernetes does.
func (b builder) compileC(ctx context.Context, source string) error {
	c := b.cfg.Component
	m := module.Version{Path: c.Module, Version: c.Version}
	src, err := b.readVerified(m, source)
	if err != nil {
		return err
	}
	cc, err := compiler(b.cfg.Architecture)
	if err != nil {
		return err
	}
	file := filepath.Base(source) // relative, to keep the directory out of the program
	if err := os.WriteFile(filepath.Join(b.work, file), src, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "compiling %s %s: %s\n", c.Name, b.cfg.Version, c.Name)
	err = b.run(ctx, b.work, b.baseEnvironment(), cc, "-Os", "-Wall", "-Werror", "-static", "-s",
		"-Wl,--build-id=none", "-DVERSION="+b.cfg.Version, "-o", c.Name, file)
	if err != nil {
		return fmt.Errorf("compiling %s: %w", c.Name, err)
	}
	return b.install(filepath.Join(b.work, c.Name), c.Name)
}

// readVerified returns a file of m after checking m's zip file against the lock.
func (b builder) readVerified(m module.Version, name string) ([]byte, error) {
	prefix := m.Path + " " + m.Version + " "
	i := slices.IndexFunc(b.cfg.Component.GoSum, func(l string) bool { return strings.HasPrefix(l, prefix) })
	if i < 0 {
		return nil, fmt.Errorf("the lock of %s has no checksum for %s", b.cfg.Component.Name, m)
	}
	zipFile, err := zipPath(b.cfg.Modules, m)
	if err != nil {
		return nil, err
	}
	if err := verify(zipFile, m, strings.TrimPrefix(b.cfg.Component.GoSum[i], prefix)); err != nil {
		return nil, err
	}
	return ReadFile(zipFile, m, name)
}

// zipPath is where a directory laid out as a module proxy has m.
func zipPath(dir string, m module.Version) (string, error) {
	p, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	v, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.FromSlash(p), "@v", v+".zip"), nil
}

// run runs a program, and ends it with its children when ctx ends.
func (b builder) run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// install moves a program into the output directory.
func (b builder) install(from, name string) error {
	to := filepath.Join(b.cfg.Out, name)
	if err := os.Chmod(from, 0o755); err != nil {
		return err
	}
	if err := move(from, to); err != nil {
		return err
	}
	return os.Chtimes(to, b.epoch, b.epoch)
}

// move is os.Rename, also from one file system to another.
func move(from, to string) error {
	if err := os.Rename(from, to); err == nil || !errors.Is(err, syscall.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Close(), os.Remove(from))
}
