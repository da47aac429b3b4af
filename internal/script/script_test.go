package script

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/deb/servicepolicy"
	"nodesmith.dev/nodesmith/internal/fault"
)

// tree returns a directory as far as Run looks at it, and a script in it.
func tree(t *testing.T, script string) (root, file string) {
	t.Helper()
	root = t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(root, "script")
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return root, file
}

func TestAScriptRunsInTheTreeWithItsEnvironmentAndNoServices(t *testing.T) {
	for name, script := range map[string]string{
		"by a shell": "exec > out\n",
		"by itself":  "#!/bin/bash\nset -o pipefail\nexec > out\n",
	} {
		t.Run(name, func(t *testing.T) {
			root, file := tree(t, script+`echo "$KUBERNETES_VERSION $DEBIAN_FRONTEND $HOME $LC_ALL"; ls usr/sbin`+"\n")
			config := Config{Name: "a", Point: "final", File: file, Environment: []string{"KUBERNETES_VERSION=v1.34.0"}}
			if err := Run(t.Context(), config, root); err != nil {
				t.Fatal(err)
			}
			out, err := os.ReadFile(filepath.Join(root, "out"))
			if want := "v1.34.0 noninteractive /root C.UTF-8\npolicy-rc.d\n"; err != nil || string(out) != want {
				t.Errorf("%q, %v; want %q", out, err, want)
			}
			if _, err := os.Lstat(filepath.Join(root, servicepolicy.Path)); err == nil {
				t.Error("policy-rc.d is left in the tree")
			}
		})
	}
}

func TestAScriptThatFailsIsNamedWithItsExitCode(t *testing.T) {
	for script, want := range map[string]string{
		"exit 7\n":              `script "harden" (final) ended with exit code 7`,
		"false\necho go on\n":   `script "harden" (final) ended with exit code 1`,
		"kill -9 $$\n":          `script "harden" (final) was ended: signal: killed`,
		"#!/no/such/program\n":  `script "harden" (final) can't be run as`,
		"#!/bin/bash\nexit 2\n": `script "harden" (final) ended with exit code 2`,
	} {
		root, file := tree(t, script)
		err := Run(t.Context(), Config{Name: "harden", Point: "final", File: file}, root)
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Engine {
			t.Errorf("%q: %v, want %s", script, err, want)
		}
		if _, err := os.Lstat(filepath.Join(root, servicepolicy.Path)); err == nil {
			t.Errorf("%q: policy-rc.d is left in the tree", script)
		}
	}
}
