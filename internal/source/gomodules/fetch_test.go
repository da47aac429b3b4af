package gomodules

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"golang.org/x/mod/sumdb/dirhash"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/lock"
)

// serve writes modules, in the layout of a module proxy, to a directory and
// returns it as a file:// URL with the lines of go.sum for them.
func serve(t *testing.T, modules ...module.Version) (url string, sums []string) {
	t.Helper()
	dir := t.TempDir()
	for _, m := range modules {
		src := t.TempDir()
		goMod := []byte("module " + m.Path + "\n")
		mod, zip := proxyFile(t, dir, m, "mod"), proxyFile(t, dir, m, "zip")
		if err := errors.Join(os.WriteFile(filepath.Join(src, "go.mod"), goMod, 0o600), os.WriteFile(mod, goMod, 0o600)); err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(zip)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(modzip.CreateFromDir(out, m, src), out.Close()); err != nil {
			t.Fatal(err)
		}
		zipSum, err := dirhash.HashZip(zip, dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		modSum, err := goproxy.HashMod(mod)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, m.Path+" "+m.Version+" "+zipSum, m.Path+" "+m.Version+"/go.mod "+modSum)
	}
	return "file://" + dir, sums
}

func proxyFile(t *testing.T, dir string, m module.Version, ext string) string {
	t.Helper()
	name, err := goproxy.Escape(m, ext)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

var (
	goTree = module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.24.6.linux-amd64"}
	rocket = module.Version{Path: "example.com/Rocket", Version: "v1.2.3"}
	fuel   = module.Version{Path: "example.com/fuel/v2", Version: "v2.0.0"}
)

// rocketLock is a lock of a component whose build reads rocket and fuel's go.mod.
func rocketLock(sums []string) lock.Kubernetes {
	return lock.Kubernetes{
		Toolchain: lock.GoModule{Path: goTree.Path, Version: goTree.Version, Sum: strings.Fields(sums[0])[2]},
		Components: []lock.GoComponent{
			{Name: "rocket", Version: "v1.2.3", GoSum: []string{sums[2], sums[3], sums[5]}},
			{Name: "launcher", Version: "v1.2.3", GoSum: []string{sums[2]}},
		},
	}
}

func TestFetchGivesExactlyWhatIsLocked(t *testing.T) {
	url, sums := serve(t, goTree, rocket, fuel)
	cfg := Config{Proxy: goproxy.Config{Proxy: url, Dir: t.TempDir()}}
	s, err := Fetch(t.Context(), cfg, rocketLock(sums))
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string][]string{
		s.Toolchain:              {"/" + s.ToolchainZip},
		s.Components["rocket"]:   {"/example.com/!rocket/@v/v1.2.3.mod", "/example.com/!rocket/@v/v1.2.3.zip", "/example.com/fuel/v2/@v/v2.0.0.mod"},
		s.Components["launcher"]: {"/example.com/!rocket/@v/v1.2.3.zip"},
	} {
		if got := proxyFiles(t, dir); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
	// The next run needs no proxy.
	cfg.Proxy.Proxy = "file:///nonexistent"
	again, err := Fetch(t.Context(), cfg, rocketLock(sums))
	if err != nil || again.Components["rocket"] != s.Components["rocket"] {
		t.Errorf("second run: %+v, %v", again, err)
	}
}

func TestFetchRefusesWhatIsNotLocked(t *testing.T) {
	url, sums := serve(t, goTree, rocket, fuel)
	for i := range 3 {
		k := rocketLock(sums)
		k.Components = k.Components[:1]
		f := strings.Fields(k.Components[0].GoSum[i])
		k.Components[0].GoSum[i] = f[0] + " " + f[1] + " h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		cfg := Config{Proxy: goproxy.Config{Proxy: url, Dir: t.TempDir()}}
		if _, err := Fetch(t.Context(), cfg, k); fault.KindOf(err) != fault.Unverifiable {
			t.Errorf("%s: %v, want unverifiable", f[1], err)
		}
		entries, _ := filepath.Glob(filepath.Join(cfg.Proxy.Dir, "bundles", "*"))
		for _, e := range entries {
			if !strings.HasPrefix(filepath.Base(e), "toolchain-") {
				t.Errorf("%s was left", e)
			}
		}
	}
	k := rocketLock(sums)
	k.Components[0].GoSum[0] = "../escape v1.0.0 h1:x="
	if _, err := Fetch(t.Context(), Config{Proxy: goproxy.Config{Proxy: url, Dir: t.TempDir()}}, k); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("a broken lock: %v, want a bad spec", err)
	}
}

func TestFetchesMayShareACache(t *testing.T) {
	url, sums := serve(t, goTree, rocket, fuel)
	cfg := Config{Proxy: goproxy.Config{Proxy: url, Dir: t.TempDir()}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Fetch(t.Context(), cfg, rocketLock(sums)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(cfg.Proxy.Dir, "bundles", ".tmp-*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	url, sums := serve(t, goTree, rocket, fuel)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Fetch(ctx, Config{Proxy: goproxy.Config{Proxy: url, Dir: t.TempDir()}}, rocketLock(sums))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
