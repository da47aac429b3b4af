package contract

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// compile builds a program as a vendor does: a module of upstream's path
// without a version, the version in variables that the linker sets.
func compile(t *testing.T, path, pkg, flags string, more ...string) *os.File {
	t.Helper()
	testenv.Need(t, "go")
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":             "module " + path + "\n\ngo 1.24\n",
		"version/version.go": "package version\n\nvar (\n\tgitVersion = \"v0.0.0-master+$Format:%H$\"\n\tgitCommit = \"unknown\"\n)\n\nfunc Get() string { return gitVersion + gitCommit }\n",
		"main.go":            "package main\n\nimport \"" + path + "/version\"\n\nvar other = \"v1.2\"\n\nfunc main() { println(version.Get(), other, \"v1.11.0\") }\n",
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "program")
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", out, "-ldflags", strings.ReplaceAll(flags, "PKG", pkg)}, append(more, ".")...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestVersionsAreReadWithoutRunningPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: compiles programs")
	}
	const path = "k8s.io/kubernetes"
	stamp := "-X PKG.gitVersion=v1.27.5+vmware.1 -X PKG.gitCommit=93e0d7146fb9c3e9f68aa41b2b4265b2fcdb0a4c"
	for name, c := range map[string]struct {
		flags string
		more  []string
		want  string
	}{
		// Go records linker flags unless paths are trimmed, as Kubernetes' own build does.
		"stripped and trimmed": {"-s -w " + stamp, []string{"-trimpath"}, "v1.27.5+vmware.1"},
		"with its symbols":     {stamp, []string{"-trimpath"}, "v1.27.5+vmware.1"},
		"nothing stamped":      {"-s -w", []string{"-trimpath"}, ""},
		"two versions stamped": {"-s -w -X main.other=v1.28.0 " + stamp, []string{"-trimpath"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := compile(t, path, path+"/version", c.flags, c.more...)
			architecture, version, err := inspect(f, kubernetesOrigin)
			if err != nil || architecture != "amd64" || version != c.want {
				t.Errorf("%s %q, %v; want amd64 %q", architecture, version, err, c.want)
			}
		})
	}
	t.Run("linker flags recorded", func(t *testing.T) {
		f := compile(t, "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/version", "-X 'PKG.Version=v2.1.4' -s")
		if _, version, err := inspect(f, containerdOrigin); err != nil || version != "v2.1.4" {
			t.Errorf("%q, %v", version, err)
		}
	})
	t.Run("not a program", func(t *testing.T) {
		if _, _, err := inspect(strings.NewReader("#!/bin/sh\n"), kubernetesOrigin); err == nil {
			t.Error("no error")
		}
	})
}
