package engine

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// gRPC closes a listener more than once, the last time when the next engine may serve.
func TestASocketThatIsClosedOnceMoreLeavesTheNextOneAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.sock")
	first, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	_ = first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// Who waits for others to end says so only while there are some.
func TestASocketKnowsHowManyConnectionsAreOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.sock")
	s, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	other, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	conn, err := s.Accept()
	if err != nil || s.open.Load() != 1 {
		t.Fatalf("%d open, %v", s.open.Load(), err)
	}
	for range 2 {
		_ = conn.Close()
		if open := s.open.Load(); open != 0 {
			t.Errorf("%d open after it was closed", open)
		}
	}
}
