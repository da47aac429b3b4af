package engine

import (
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// tailLines is how much of a failed step's output goes into its error.
const tailLines = 25

// tail keeps the last lines of every running step's output.
type tail struct {
	mu    sync.Mutex
	lines map[digest.Digest][]string
	name  string
	step  digest.Digest
}

func newTail() *tail { return &tail{lines: map[digest.Digest][]string{}} }

func (t *tail) add(event *client.SolveStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, log := range event.Logs {
		lines := append(t.lines[log.Vertex], strings.Split(strings.TrimRight(string(log.Data), "\n"), "\n")...)
		if len(lines) > tailLines {
			lines = lines[len(lines)-tailLines:]
		}
		t.lines[log.Vertex] = lines
	}
	for _, vertex := range event.Vertexes {
		switch {
		case vertex.Error != "" && t.name == "" && !strings.Contains(vertex.Error, "context canceled"):
			t.name, t.step = vertex.Name, vertex.Digest
		case vertex.Completed != nil && vertex.Error == "":
			delete(t.lines, vertex.Digest)
		}
	}
}

// failed returns the first failed step's name and its last lines.
func (t *tail) failed() (name, output string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.name == "" {
		return "", ""
	}
	return t.name, "  " + strings.Join(t.lines[t.step], "\n  ")
}
