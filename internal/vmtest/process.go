package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// process is a running program and the group it leads.
type process struct {
	pid    int
	done   chan struct{} // closed when the program has ended
	err    error         // of exec.Cmd.Wait; valid after done
	stderr *limited
}

// spawn starts cmd as the leader of a process group that is killed when ctx
// ends, and that the kernel kills when this process dies.
//
// The kernel's parent-death signal follows the thread that forked, not the
// process. So one goroutine locked to its thread starts the program and stays
// until it has ended.
func spawn(ctx context.Context, cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{}), stderr: &limited{}}
	cmd.Stderr = p.stderr
	cmd.WaitDelay = 2 * time.Second // for a grandchild that holds stderr open
	lead(cmd)

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		defer close(p.done)
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		stop := context.AfterFunc(ctx, func() {
			killGroup(p.pid)
		})
		p.err = cmd.Wait()
		stop()
	}()
	if err := <-started; err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, needQEMU(cmd.Path, err)
		}
		return nil, err
	}
	return p, nil
}

// limited keeps the first 8 KiB that are written to it.
type limited struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const limitedSize = 8 << 10

// Write never fails: what does not fit is dropped.
func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p[:min(len(p), limitedSize-l.buf.Len())])
	return len(p), nil
}

// String returns what was kept.
func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// escape makes a path fit for an option of QEMU, where a comma separates.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
