package test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"github.com/tonistiigi/vt100"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// session is nodesmith on a pseudo-terminal.
type session struct {
	master console.Console
	cmd    *exec.Cmd
	read   chan struct{} // closed when all output was read

	mu     sync.Mutex
	screen *vt100.VT100
	raw    strings.Builder
}

// onTerminal starts nodesmith as on a terminal of that size.
func onTerminal(t *testing.T, columns, rows int, env []string, args ...string) *session {
	t.Helper()
	testenv.NeedRoot(t)
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	slave, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	s := &session{master: master, read: make(chan struct{}), screen: vt100.NewVT100(rows, columns)}
	s.resize(t, columns, rows)
	s.cmd = exec.CommandContext(t.Context(), program, args...)
	s.cmd.Env = append(os.Environ(), append([]string{"TERM=xterm", "LC_ALL=C.UTF-8", "NO_COLOR="}, env...)...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.read)
		_, _ = io.Copy(s, master) // ends with EIO when the last process has closed the terminal
	}()
	return s
}

// Write takes what the program has written.
func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(p)
	return s.screen.Write(p)
}

func (s *session) resize(t *testing.T, columns, rows int) {
	t.Helper()
	s.mu.Lock()
	s.screen.Resize(rows, columns)
	s.mu.Unlock()
	if err := s.master.Resize(console.WinSize{Width: uint16(columns), Height: uint16(rows)}); err != nil {
		t.Fatal(err)
	}
}

// text is what a person sees.
func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []string
	for _, row := range s.screen.Content {
		rows = append(rows, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

// see waits until the screen shows something.
func (s *session) see(t *testing.T, like string) {
	t.Helper()
	pattern := regexp.MustCompile(like)
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if pattern.MatchString(s.text()) {
			return
		}
		select {
		case <-s.read:
			t.Fatalf("it ended without %s:\n%s", like, s.text())
		default:
		}
	}
	t.Fatalf("no %s:\n%s", like, s.text())
}

// end waits for the process and returns its exit code.
func (s *session) end(t *testing.T) int {
	t.Helper()
	err := s.cmd.Wait()
	<-s.read
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// waiting is a build, changed in nothing but a script that runs until it is ended.
func waiting(t *testing.T) []string {
	t.Helper()
	return append(lockedBuild(t), "--set", "spec.scripts=[{name: wait, when: final, content: 'echo now waiting; sleep 600'}]")
}

// lockedBuild are arguments that build the example into a folder of its own.
func lockedBuild(t *testing.T) []string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	takeLock(t, dir)
	return []string{"build", "-f", example, "-o", dir, "--locked"}
}

func TestABuildOnATerminalIsLiveAndLeavesTheClosingTable(t *testing.T) {
	s := onTerminal(t, 100, 40, nil, append(lockedBuild(t), "--set", "spec.files=[{path: /etc/motd, content: "+time.Now().String()+"}]")...)
	s.see(t, `(?m)^debian-12: debian 12, Kubernetes v1\.34\.0, amd64 +\d+\.\ds$`)
	s.see(t, `(?m)^✓ kubernetes +\d+ cached$`)
	if code := s.end(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, s.text())
	}
	left := strings.TrimSpace(s.text())
	// Before it stands at most that another nodesmith holds the engine.
	said, closing, built := strings.Cut(left, "Built debian-12: ")
	if !built || strings.ContainsAny(left, "✓▸·") || !strings.Contains(closing, "STAGE") || said != "" && !strings.HasPrefix(said, "waiting for ") {
		t.Errorf("left on the terminal:\n%s", left)
	}
	if !strings.Contains(s.raw.String(), "\x1b[32m") {
		t.Error("no colours")
	}
}

func TestCtrlCOnATerminalLeavesTheErrorAlone(t *testing.T) {
	s := onTerminal(t, 100, 40, []string{"NO_COLOR=1"}, waiting(t)...)
	s.see(t, `(?m)^    now waiting$`)
	s.resize(t, 60, 20)
	s.see(t, `(?m)^.{50,59}s$`) // a line as wide as the terminal now
	if _, err := s.master.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if code := s.end(t); code != fault.Interrupted.ExitCode() {
		t.Errorf("exit code %d", code)
	}
	if left := strings.TrimSpace(s.text()); strings.ContainsAny(left, "✓▸·✗") || !strings.Contains(left, "nodesmith: qemu: build: interrupt") {
		t.Errorf("left on the terminal:\n%s", left)
	}
	if regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(s.raw.String()) {
		t.Error("colours, with NO_COLOR")
	}
}

func TestATerminalThatCannotShowItGetsLines(t *testing.T) {
	for name, env := range map[string][]string{"dumb": {"TERM=dumb"}, "no UTF-8": {"LC_ALL=C"}} {
		t.Run(name, func(t *testing.T) {
			s := onTerminal(t, 200, 60, env, waiting(t)...)
			s.see(t, `(?m)^ +\d+\.\ds  cached  os: configure$`)
			s.see(t, `(?m)scripts: wait \(final\) \| now waiting$`)
			if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if code := s.end(t); code != fault.Interrupted.ExitCode() || strings.Contains(s.raw.String(), "\x1b[") {
				t.Errorf("exit code %d:\n%q", code, s.raw.String())
			}
		})
	}
}
