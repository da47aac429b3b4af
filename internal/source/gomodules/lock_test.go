package gomodules

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// networked ends the test where the public module proxy can't be reached, and
// with -short. It returns a configuration with a cache of its own.
func networked(t *testing.T) Config {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches 100 MB of modules; left out with -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, goproxy.DefaultProxy+"/golang.org/x/mod/@v/v0.27.0.info", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		testenv.Lacks(t, "a way to "+goproxy.DefaultProxy+" ("+err.Error()+")")
	}
	resp.Body.Close()
	cfg := Config{Proxy: goproxy.Config{Dir: t.TempDir()}, Log: t.Logf}
	for _, name := range NetworkVariables() {
		if v, ok := os.LookupEnv(name); ok {
			cfg.Env = append(cfg.Env, name+"="+v)
		}
	}
	return cfg
}

// Two components go through Lock and Fetch as all do: one that the checksum
// database knows, and crictl, which it does not. The go command judges: with the
// bundle as its only proxy it finds all it needs, and it reads every file.
func TestLockedSumsAreMinimalAndComplete(t *testing.T) {
	cfg := networked(t)
	l, err := newLocker(cfg, "v1.34.0", "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	k8s := module.Version{Path: golang.KubernetesModule, Version: "v1.34.0"}
	zipFile, sum, err := l.client.Zip(t.Context(), k8s, "")
	if err != nil {
		t.Fatal(err)
	}
	toolchain, goCommand, err := l.toolchain(t.Context(), zipFile, k8s)
	if err != nil {
		t.Fatal(err)
	}
	if toolchain.Version != "v0.0.1-go1.24.6.linux-amd64" {
		t.Errorf("toolchain %s", toolchain.Version)
	}
	k := lock.Kubernetes{Version: "v1.34.0", Toolchain: toolchain}
	for _, name := range []string{golang.CNI, golang.Crictl} {
		c, _ := golang.Lookup(name)
		version := l.versions(addons{})[name]
		component, err := l.component(t.Context(), goCommand, c, version, sum)
		if err != nil {
			t.Fatal(err)
		}
		k.Components = append(k.Components, component)
	}
	sources, err := Fetch(t.Context(), cfg, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(sources.Toolchain, filepath.FromSlash(sources.ToolchainZip))); err != nil {
		t.Error(err)
	}
	for _, c := range k.Components {
		t.Run(c.Name, func(t *testing.T) {
			offered := proxyFiles(t, sources.Components[c.Name])
			if len(offered) != len(c.GoSum) {
				t.Errorf("%d files for %d lines of go.sum", len(offered), len(c.GoSum))
			}
			read := readBy(t, goCommand, c, sources.Components[c.Name])
			if !slices.Equal(read, offered) {
				t.Errorf("the go command read\n%s\nof\n%s", strings.Join(read, "\n"), strings.Join(offered, "\n"))
			}
		})
	}
}

// readBy lists the files that the go command takes from dir to load c's
// packages, with nothing else to take them from.
func readBy(t *testing.T, goCommand string, c lock.GoComponent, dir string) []string {
	t.Helper()
	main := t.TempDir()
	if err := writeModule(main, c.GoMod, c.GoSum); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), goCommand, append([]string{"list", "-deps", "-mod=readonly", "-modcacherw"}, c.Packages...)...)
	cmd.Dir = main
	cmd.Env = []string{"HOME=" + main, "GOPATH=" + filepath.Join(main, "gopath"), "GOCACHE=" + filepath.Join(main, "cache"),
		"GOPROXY=file://" + dir, "GOSUMDB=off", "GOTOOLCHAIN=local", "GOENV=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return proxyFiles(t, filepath.Join(main, "gopath", "pkg", "mod", "cache", "download"))
}

// proxyFiles lists the zip and mod files below dir, sorted.
func proxyFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(p, ".zip") || strings.HasSuffix(p, ".mod")) {
			out = append(out, strings.TrimPrefix(p, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLockRefusesVersionsThatItCannotBuild(t *testing.T) {
	cfg := Config{Proxy: goproxy.Config{Dir: t.TempDir(), Proxy: "https://proxy.invalid"}}
	for _, version := range []string{"v1.2.0", "1.34.0", "stable"} {
		if _, err := Lock(t.Context(), cfg, version, "amd64", nil); fault.KindOf(err) != fault.BadSpec {
			t.Errorf("%s: %v, want a bad spec", version, err)
		}
	}
}

func TestSumsAreRead(t *testing.T) {
	got, err := parseSums([]string{"a.b/c v1.0.0 h1:x=", "a.b/c v1.0.0/go.mod h1:y="})
	if err != nil || got[module.Version{Path: "a.b/c", Version: "v1.0.0/go.mod"}] != "h1:y=" || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for name, lines := range map[string][]string{
		"too few fields": {"a.b/c v1.0.0"},
		"other hash":     {"a.b/c v1.0.0 h9:x="},
		"bad version":    {"a.b/c 1.0 h1:x="},
		"path escape":    {"../c v1.0.0 h1:x="},
		"contradiction":  {"a.b/c v1.0.0 h1:x=", "a.b/c v1.0.0 h1:y="},
		"empty line":     {""},
	} {
		if _, err := parseSums(lines); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What the go command says decides the exit code.
func TestErrorsOfTheGoCommandHaveAKind(t *testing.T) {
	for text, kind := range map[string]fault.Kind{
		"go: downloading x v1\nx@v1: verifying module: checksum mismatch\n":                          fault.Unverifiable,
		"x@v1: verifying module: reading https://p/lookup/x@v1: 404":                                 fault.Unverifiable,
		"x@v1: verifying module: reading https://p/lookup/x@v1: dial tcp 192.0.2.1:443: i/o timeout": fault.Network,
		"https://p/x/@v/v1.zip: 503 Service Unavailable":                                             fault.Network,
		"dial tcp 192.0.2.1:443: connect: connection refused":                                        fault.Network,
		"write /tmp/x: no space left on device":                                                      fault.NoSpace,
		"package x/y is not in std":                                                                  fault.Internal,
	} {
		err := listError(errors.New("exit status 1"), text)
		if fault.KindOf(err) != kind {
			t.Errorf("%q is %v, want %v", text, fault.KindOf(err), kind)
		}
		if strings.Contains(err.Error(), "downloading") {
			t.Errorf("progress in an error: %v", err)
		}
	}
}
