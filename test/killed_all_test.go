//go:build all

package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// The kernel ends the largest program when memory runs out: of a build that
// compiles Kubernetes a compiler, in the middle of its work.
func TestAKilledCompilerEndsTheBuildWithAdvice(t *testing.T) {
	testenv.NeedRoot(t)
	cache, dir := emptyEngine(t), t.TempDir()
	takeLock(t, dir)
	build := func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, "build", "-f", example, "-o", dir, "--locked", "--set", "spec.formats=[raw]", "--progress", "plain")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, "XDG_DATA_HOME="+cache, "XDG_STATE_HOME="+cache)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		return cmd
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()

	cmd := build(ctx)
	var killing sync.WaitGroup
	watch := &trigger{marker: regexp.MustCompile(`compiling kubernetes `)}
	watch.fire = func() { killing.Go(func() { killCompiler(ctx, t, cmd.Process.Pid) }) }
	cmd.Stderr = watch
	err := cmd.Run()
	cancelled := ctx.Err()
	killing.Wait()
	if cancelled != nil || cmd.ProcessState.ExitCode() != fault.Engine.ExitCode() {
		t.Fatalf("%v, %v\n%s", err, cancelled, watch.seen.String())
	}
	for _, want := range []string{"signal: killed", "memory"} {
		if !strings.Contains(watch.seen.String(), want) {
			t.Errorf("it says nothing of %q:\n%s", want, watch.seen.String())
		}
	}

	if out, err := build(ctx).CombinedOutput(); err != nil {
		t.Fatalf("the next build: %v\n%s", err, out)
	}
	compare := exec.CommandContext(ctx, "cmp", raw(), filepath.Join(dir, filepath.Base(raw())))
	if out, err := compare.CombinedOutput(); err != nil {
		t.Errorf("the next build made another disk: %v\n%s", err, out)
	}
}

// killCompiler kills the first Go compiler that is a descendant of a process.
func killCompiler(ctx context.Context, t *testing.T, of int) {
	for ctx.Err() == nil {
		names, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Error(err)
			return
		}
		parents, compilers := map[int]int{}, []int{}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			pid, rest, _ := bytes.Cut(content, []byte(" ("))
			program, rest, _ := bytes.Cut(rest, []byte(") "))
			fields := bytes.Fields(rest) // its state, its parent and more (proc_pid_stat(5))
			number, err := strconv.Atoi(string(pid))
			if err != nil || len(fields) < 2 {
				continue
			}
			if parents[number], err = strconv.Atoi(string(fields[1])); err == nil && string(program) == "compile" {
				compilers = append(compilers, number)
			}
		}
		for _, compiler := range compilers {
			for ancestor := compiler; ancestor > 1; ancestor = parents[ancestor] {
				if ancestor == of && syscall.Kill(compiler, syscall.SIGKILL) == nil {
					return
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("no compiler was seen")
}
