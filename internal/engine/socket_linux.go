package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"nodesmith.dev/nodesmith/internal/fault"
)

// ownSocket is where other processes of the same user reach this one's engine. Its file
// goes with it, the first time that it is closed: by the second time another process
// may have made one of that name.
type ownSocket struct {
	net.Listener
	path   string
	remove sync.Once
	open   atomic.Int64 // connections of other processes
}

func (s *ownSocket) Close() error {
	s.remove.Do(func() { _ = os.Remove(s.path) }) // or the next engine does
	return s.Listener.Close()
}

// Accept waits for another process.
func (s *ownSocket) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.open.Add(1)
	return &accepted{Conn: conn, closed: sync.OnceFunc(func() { s.open.Add(-1) })}, nil
}

// accepted is a connection of another process, which may be closed more than once.
type accepted struct {
	net.Conn
	closed func()
}

func (a *accepted) Close() error {
	defer a.closed()
	return a.Conn.Close()
}

// listen serves the socket to its owner only: it gets its name, in a folder that
// others may enter, when nobody else can connect to it any more.
func listen(ctx context.Context, path string) (*ownSocket, error) {
	if len(path) > maxSocketPath {
		return nil, fault.New(fault.MissingHost, "set XDG_CACHE_HOME to a folder with a shorter path",
			"the path of a socket has at most %d bytes, that of %s has %d", maxSocketPath, path, len(path))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	closed := filepath.Join(filepath.Dir(path), "new") // with the file no longer than path
	if err := errors.Join(os.RemoveAll(closed), os.Mkdir(closed, 0o700)); err != nil {
		return nil, err
	}
	defer os.Remove(closed)
	begun := filepath.Join(closed, "s")
	made, err := (&net.ListenConfig{}).Listen(ctx, "unix", begun)
	if err != nil {
		return nil, err
	}
	listener := made.(*net.UnixListener)
	listener.SetUnlinkOnClose(false) // it knows the file by another name
	if err := os.Chmod(begun, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(begun))
	}
	if err := os.Rename(begun, path); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(begun))
	}
	return &ownSocket{Listener: listener, path: path}, nil
}

// drain lets the builds of other processes end, until interrupted is closed.
func drain(interrupted <-chan struct{}, server *grpc.Server, others *ownSocket, log func(string, ...any)) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	notice := time.AfterFunc(noticeAfter, func() {
		if others.open.Load() == 0 {
			return // its own calls are what it waits for
		}
		select {
		case <-interrupted:
		default:
			log("waiting for another nodesmith that builds on this one's engine; after Ctrl-C it goes on by itself")
		}
	})
	defer notice.Stop()
	select {
	case <-done:
		return
	case <-interrupted:
	}
	select { // only what ends at once
	case <-done:
	case <-time.After(drainFor):
		server.Stop()
		<-done
	}
}
