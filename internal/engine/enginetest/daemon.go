// Package enginetest runs BuildKit's own daemon beside nodesmith: the engine that
// others wrote, against which tests hold nodesmith's.
package enginetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// answerWithin is how long a daemon may take to start on a slow machine.
const answerWithin = 2 * time.Minute

// Daemon is a buildkitd of the version that nodesmith embeds, as a process of its
// own.
type Daemon struct {
	// Root is its state directory, Socket what it listens on.
	Root, Socket string

	log     bytes.Buffer
	process *exec.Cmd
}

// Start runs a buildkitd on root, with further arguments, until the test ends or
// Stop is called.
func Start(t testing.TB, root string, args ...string) *Daemon {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "runc")
	d := &Daemon{Root: root, Socket: filepath.Join(root, "buildkitd.sock")}
	// It outlives t.Context, which ends before what the test has to clean up.
	d.process = exec.CommandContext(context.Background(), testenv.BuildKit(t, "buildkitd"),
		append([]string{"--root", root, "--addr", d.Address(), "--containerd-worker=false",
			"--otel-socket-path", filepath.Join(root, "otel.sock")}, args...)...)
	d.process.Stdout, d.process.Stderr = &d.log, &d.log
	if err := os.MkdirAll(root, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(syscall.SIGTERM) })
	if err := d.wait(t.Context()); err != nil {
		d.Stop(syscall.SIGKILL)
		t.Fatalf("buildkitd does not answer: %v\n%s", err, d.log.String())
	}
	return d
}

// Address is what clients call the daemon.
func (d *Daemon) Address() string { return "unix://" + d.Socket }

// wait returns when the daemon answers.
func (d *Daemon) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for {
		err := d.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *Daemon) ask(ctx context.Context) error {
	c, err := client.New(ctx, d.Address())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it has answered, or not
	_, err = c.ListWorkers(ctx)
	return err
}

// Stop ends the daemon. A killed one leaves its containers and mounts.
func (d *Daemon) Stop(signal syscall.Signal) {
	if d.process.ProcessState != nil {
		return
	}
	_ = d.process.Process.Signal(signal)
	_ = d.process.Wait()
}
