package servicepolicy

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestServicesAreForbiddenUntilTheyAreAllowed(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Forbid(root); err != nil {
		t.Fatal(err)
	}
	err := exec.Command(filepath.Join(root, Path), "ssh", "start").Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 101 {
		t.Errorf("policy-rc.d answers %v, want exit code 101, which forbids the action", err)
	}
	for range 2 {
		if err := Allow(root); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, Path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("policy-rc.d is still there: %v", err)
	}
}
