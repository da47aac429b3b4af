package steps

import (
	"bytes"
	"testing"
)

// A step's digest is in the cache keys of what it does. Packages of the project
// that change often are in no step that takes minutes, nor in one that makes what
// such a step runs in.
func TestWhatChangesOftenCompilesNothingAnew(t *testing.T) {
	for name, test := range map[string]struct {
		does  string
		often []string
	}{
		"golang":   {"golang.Compile", []string{"fault", "node", "pipeline", "kubernetes"}},
		"packages": {"source/packages/step.Unpack", []string{"source/packages/install", "node", "pipeline", "kubernetes"}},
	} {
		t.Run(name, func(t *testing.T) {
			program, err := bin.ReadFile("bin/step-" + name)
			if err != nil {
				t.Fatal(err)
			}
			// The names of functions stand in a program for its stack traces.
			has := func(what string) bool { return bytes.Contains(program, []byte("nodesmith/internal/"+what)) }
			for _, often := range test.often {
				if has(often + ".") {
					t.Errorf("step-%s has code of internal/%s", name, often)
				}
			}
			if !has(test.does) {
				t.Errorf("step-%s has no names of functions: this test proves nothing", name)
			}
		})
	}
}
