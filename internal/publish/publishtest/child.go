package publishtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// Open makes the publisher and the image of a Server's Args, in whatever
// process. The image is open until the process ends.
type Open func(ctx context.Context, args []string) (publish.Publisher, publish.Image, error)

// childVariable tells a process that it is one to be killed.
const childVariable = "NODESMITH_PUBLISHTEST_CHILD"

// child is what such a process does.
type child struct {
	Args    []string
	Journal string
	// Kill is which note the process ends at, from 1, or 0 for none; Written says
	// after it has been written rather than before.
	Kill    int
	Written bool
}

// policy waits as little as a test can.
var policy = publish.Policy{Tries: 12, First: time.Millisecond, Longest: 20 * time.Millisecond}

// Main is the body of TestMain of a package whose tests call Run.
func Main(m *testing.M, open Open) int {
	text := os.Getenv(childVariable)
	if text == "" {
		return m.Run()
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(open)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c child) run(open Open) error {
	ctx := context.Background()
	publisher, image, err := open(ctx, c.Args)
	if err != nil {
		return err
	}
	notes := 0
	watch := func(written bool) {
		if !written {
			notes++
		}
		if notes == c.Kill && written == c.Written {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
	return run(ctx, publisher, image, c.Journal, watch)
}

// run publishes as the command line does.
func run(ctx context.Context, p publish.Publisher, image publish.Image, path string, watch func(bool)) (err error) {
	journal, err := publish.OpenJournal(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	if watch != nil {
		journal.Watch(watch)
	}
	plan, err := publish.MakePlan(ctx, p, image, journal.State(), policy)
	if err != nil {
		return err
	}
	return publish.Apply(ctx, plan, journal, publish.Options{Reporter: Silent{}, Retry: policy})
}

// start runs a child until it ends itself or is done, and says whether it ended
// itself.
func (c child) start(t testing.TB, proxy *faultproxy.Proxy) (killed bool) {
	t.Helper()
	command, out := c.command(t)
	defer proxy.Settle()
	return c.ended(t, command.Run(), out)
}

// startAndKill runs a child that is killed within a request: when so many have
// passed, before the server has heard of it or when it has done what was asked. It
// says whether the child came to that request.
func (c child) startAndKill(t testing.TB, proxy *faultproxy.Proxy, skip int, heard bool) (killed bool) {
	t.Helper()
	command, out := c.command(t)
	started := make(chan struct{})
	proxy.Add(faultproxy.Fault{Skip: skip, Do: func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		if heard {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		<-started
		_ = command.Process.Kill()
		panic(http.ErrAbortHandler)
	}})
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	killed = c.ended(t, command.Wait(), out)
	proxy.Clear()
	proxy.Settle()
	return killed
}

// command is the child's process, before it starts.
func (c child) command(t testing.TB) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program)
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Dir = filepath.Dir(c.Journal)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	return command, &out
}

// ended says whether a child was killed; that it failed fails the test.
func (c child) ended(t testing.TB, err error, out *bytes.Buffer) (killed bool) {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return false
}

// Silent is a Reporter that says nothing.
type Silent struct{}

// Begin does nothing.
func (Silent) Begin(*publish.Step) {}

// End does nothing.
func (Silent) End(*publish.Step, error) {}

// Sent does nothing.
func (Silent) Sent(*publish.Step, int64) {}

// Retry does nothing.
func (Silent) Retry(*publish.Step, error, time.Duration) {}
