package engine

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// tailLines is how much of each of a failed step's two streams goes into its error.
const tailLines = 15

// cacheImport begins the name that BuildKit gives to importing a cache.
const cacheImport = "importing cache manifest from "

// Streams of a step's output, as client.VertexLog numbers them.
const (
	stdout = 1
	stderr = 2
)

// tail keeps the last lines of every running step's output. The streams are
// kept apart because they arrive out of order: the reason, on stderr, must not
// be pushed out by progress on stdout.
type tail struct {
	lines map[digest.Digest]map[int][]string
	name  string
	step  digest.Digest
}

func newTail() *tail { return &tail{lines: map[digest.Digest]map[int][]string{}} }

func (t *tail) add(event *client.SolveStatus) {
	for _, log := range event.Logs {
		streams := t.lines[log.Vertex]
		if streams == nil {
			streams = map[int][]string{}
			t.lines[log.Vertex] = streams
		}
		lines := slices.Concat(streams[log.Stream], strings.Split(strings.TrimRight(string(log.Data), "\n"), "\n"))
		streams[log.Stream] = lines[max(0, len(lines)-tailLines):]
	}
	for _, vertex := range event.Vertexes {
		switch {
		case strings.HasPrefix(vertex.Name, cacheImport):
			// A cache that can't be had fails no build.
		case vertex.Error != "" && t.name == "" && !strings.Contains(vertex.Error, "context canceled"):
			t.name, t.step = vertex.Name, vertex.Digest
		case vertex.Completed != nil && vertex.Error == "":
			delete(t.lines, vertex.Digest)
		}
	}
}

// failed returns the first failed step's name and its last lines, indented.
func (t *tail) failed() (name, output string) {
	for _, stream := range []int{stdout, stderr} {
		for _, line := range t.lines[t.step][stream] {
			output += "\n  " + line
		}
	}
	return t.name, output
}
