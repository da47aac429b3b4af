package steps

import (
	"bytes"
	"testing"
)

// A step's digest is in the cache keys of what it does. Packages of the project
// that change often are in no step that takes minutes.
func TestWhatChangesOftenCompilesNothingAnew(t *testing.T) {
	program, err := bin.ReadFile("bin/step-golang")
	if err != nil {
		t.Fatal(err)
	}
	for _, often := range []string{"fault", "node", "pipeline", "kubernetes"} {
		// The names of functions stand in a program for its stack traces.
		if bytes.Contains(program, []byte("nodesmith/internal/"+often+".")) {
			t.Errorf("step-golang has code of internal/%s", often)
		}
	}
	if !bytes.Contains(program, []byte("nodesmith/internal/golang.Compile")) {
		t.Error("step-golang has no names of functions: this test proves nothing")
	}
}
