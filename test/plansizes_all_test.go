//go:build all

package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// On a machine that has downloaded nothing the plan names every file with its size:
// for the Go modules those of the files that builds here have fetched since.
func TestAPlanOnAnEmptyCacheKnowsTheSizeOfEveryDownload(t *testing.T) {
	testenv.NeedRoot(t)
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "plan", "-f", example, "-o", built, "--locked", "--json")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+empty, "XDG_DATA_HOME="+empty)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errOut.String())
	}
	var p report.Plan
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	packages, modules := 0, 0
	for _, d := range p.Downloads {
		if d.SizeBytes == nil {
			t.Errorf("%s: no size", d.Name)
			continue
		}
		if strings.HasPrefix(d.Name, "http") { // the lock says, and fetching verifies
			packages++
			continue
		}
		modules++
		info, err := os.Stat(filepath.Join(user, "nodesmith", "go", "pkg", "mod", "cache", "download", filepath.FromSlash(d.Name)))
		if err == nil && info.Size() != *d.SizeBytes {
			t.Errorf("%s: planned %d bytes, fetched %d", d.Name, *d.SizeBytes, info.Size())
		}
	}
	if packages < 300 || modules < 500 {
		t.Errorf("%d packages and %d files of modules", packages, modules)
	}
}
