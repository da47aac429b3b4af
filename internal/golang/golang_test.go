package golang

import (
	"archive/zip"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var epoch = time.Unix(1756000000, 0)

// writeZip writes a zip file with these entries, in order, and returns its
// path and checksum.
func writeZip(t *testing.T, entries ...[2]string) (file, sum string) {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range entries {
		f, err := w.Create(e[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return file, sum
}

var toolchain = module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.24.6.linux-amd64"}

func TestUnpackGivesToolchainsTheirModesAndTimes(t *testing.T) {
	root := toolchain.String() + "/"
	file, sum := writeZip(t, [2]string{root + "bin/go", "ELF"}, [2]string{root + "pkg/tool/linux_amd64/link", "ELF"},
		[2]string{root + "src/fmt/print.go", "package fmt"}, [2]string{root + "VERSION", "go1.24.6"})
	dir := filepath.Join(t.TempDir(), "go")
	if err := Unpack(file, toolchain, sum, dir, epoch); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o755, "bin": fs.ModeDir | 0o755, "bin/go": 0o755, "pkg/tool/linux_amd64/link": 0o755,
		"src/fmt/print.go": 0o644, "VERSION": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != mode || !info.ModTime().Equal(epoch) {
			t.Errorf("%s: mode %v, time %v; want %v, %v", name, info.Mode(), info.ModTime(), mode, epoch)
		}
	}
}

func TestUnpackRefusesHostileArchives(t *testing.T) {
	root := toolchain.String() + "/"
	for name, entry := range map[string]string{
		"parent":       root + "../../escaped",
		"absolute":     "/escaped",
		"other module": "golang.org/toolchain@v0.0.1-go1.24.7.linux-amd64/escaped",
		"no prefix":    "escaped",
		"backslash":    root + `..\escaped`,
		"dot element":  root + "./escaped",
		"device name":  root + "aux.go",
	} {
		t.Run(name, func(t *testing.T) {
			file, sum := writeZip(t, [2]string{root + "VERSION", "go1.24.6"}, [2]string{entry, "boo"})
			outer := t.TempDir()
			if err := Unpack(file, toolchain, sum, filepath.Join(outer, "a", "go"), epoch); err == nil {
				t.Error("accepted")
			}
			_ = filepath.WalkDir(outer, func(p string, d fs.DirEntry, _ error) error {
				if !d.IsDir() {
					t.Errorf("%s was written", p)
				}
				return nil
			})
		})
	}
}

func TestUnpackRefusesAnotherChecksum(t *testing.T) {
	file, _ := writeZip(t, [2]string{toolchain.String() + "/VERSION", "go1.24.6"})
	err := Unpack(file, toolchain, "h1:AAAA", filepath.Join(t.TempDir(), "go"), epoch)
	if !errors.Is(err, ErrChecksum) {
		t.Errorf("error %v, want unverifiable", err)
	}
}

func TestReadFile(t *testing.T) {
	m := module.Version{Path: "k8s.io/kubernetes", Version: "v1.34.0"}
	file, _ := writeZip(t, [2]string{m.String() + "/.go-version", "1.24.6\n"}, [2]string{m.String() + "/x/.go-version", "no"})
	if data, err := ReadFile(file, m, ".go-version"); err != nil || string(data) != "1.24.6\n" {
		t.Errorf("ReadFile: %q, %v", data, err)
	}
	if _, err := ReadFile(file, m, "go.mod"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v, want fs.ErrNotExist", err)
	}
}

func TestBinaryNames(t *testing.T) {
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet":   "kubelet",
		"go.etcd.io/etcd/server/v3":       "etcd",
		"go.etcd.io/etcd/etcdctl/v3":      "etcdctl",
		"github.com/coredns/coredns":      "coredns",
		"github.com/opencontainers/runc":  "runc",
		"example.com/v2/cmd/containerd-x": "containerd-x",
	} {
		if got := Binary(pkg); got != want {
			t.Errorf("Binary(%q) = %q, want %q", pkg, got, want)
		}
	}
}

// Every program of a node has one name, and comes from a module that its
// component requires.
func TestTheTableIsConsistent(t *testing.T) {
	seen := map[string]string{}
	for _, c := range Components() {
		if (c.C == "") == (len(c.Builds) == 0) {
			t.Errorf("%s: builds or C, not both or neither", c.Name)
		}
		for _, p := range c.Packages() {
			if other, dup := seen[Binary(p)]; dup {
				t.Errorf("%s and %s both make %s", other, p, Binary(p))
			}
			seen[Binary(p)] = p
			if !slices.ContainsFunc(c.Modules, func(m string) bool { return p == m || strings.HasPrefix(p, m+"/") }) {
				t.Errorf("%s: %s is in none of %q", c.Name, p, c.Modules)
			}
		}
	}
	for _, want := range []string{"kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
		"kube-proxy", "etcd", "etcdctl", "etcdutl", "coredns", "containerd", "ctr", "containerd-shim-runc-v2", "runc", "crictl",
		"bridge", "host-local", "loopback", "portmap", "firewall"} {
		if seen[want] == "" {
			t.Errorf("nothing makes %s", want)
		}
	}
}

func TestStampsAreExpanded(t *testing.T) {
	for value, want := range map[string]string{
		"$VERSION": "v1.34.2-rc.1", "$BARE": "1.34.2-rc.1", "$MAJOR.$MINOR": "1.34", "$DATE": "2025-08-24T01:46:40Z", "archive": "archive",
	} {
		if got := (Stamp{"x.y", value}).expand("v1.34.2-rc.1", epoch); got != want {
			t.Errorf("%s became %q, want %q", value, got, want)
		}
	}
}

func TestPauseIsStampedWithTheVersionOfItsImage(t *testing.T) {
	k := lock.Kubernetes{
		Version:    "v1.34.0",
		Components: []lock.GoComponent{{Name: Pause, Version: "v1.34.0"}, {Name: Runc, Version: "v1.3.3"}},
		Images:     []lock.ContainerImage{{Name: "registry.k8s.io/etcd:3.6.4-0", Component: Etcd}, {Name: "registry.k8s.io/pause:3.10.1", Component: Pause}},
	}
	for name, want := range map[string]string{Pause: "v3.10.1", Runc: "v1.3.3"} {
		cfg, err := NewBuildConfig(k, name, "amd64")
		if err != nil || cfg.Version != want {
			t.Errorf("%s: version %q, %v; want %q", name, cfg.Version, err, want)
		}
	}
	if _, err := NewBuildConfig(k, CNI, "amd64"); err == nil {
		t.Error("a component that the lock lacks was accepted")
	}
}

// A component in C goes the whole way here; those in Go need a toolchain and
// are compiled by the networked tests of package gomodules.
func TestCompilePause(t *testing.T) {
	cc, err := compiler("amd64")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, cc)
	m := module.Version{Path: KubernetesModule, Version: "v1.34.0"}
	file, sum := writeZip(t, [2]string{m.String() + "/build/pause/linux/pause.c",
		"#include <stdio.h>\n#define S(x) #x\n#define V(x) S(x)\nint main(void) { return puts(V(VERSION)) < 0; }\n"})
	modules := t.TempDir()
	if err := os.MkdirAll(filepath.Join(modules, "k8s.io/kubernetes/@v"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(modules, "k8s.io/kubernetes/@v/v1.34.0.zip")); err != nil {
		t.Fatal(err)
	}
	cfg := BuildConfig{
		Component:    lock.GoComponent{Name: Pause, Module: m.Path, Version: m.Version, GoSum: []string{m.Path + " " + m.Version + " " + sum}},
		Version:      "v3.10.1",
		Architecture: "amd64",
		Modules:      modules,
	}
	var programs [2][]byte
	for i := range programs {
		cfg.Out = filepath.Join(t.TempDir(), "out")
		if err := Compile(t.Context(), cfg, epoch, t.Output()); err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(cfg.Out, "pause")
		info, err := os.Stat(program)
		if err != nil || info.Mode() != 0o755 || !info.ModTime().Equal(epoch) {
			t.Errorf("%v, %v", info, err)
		}
		if programs[i], err = os.ReadFile(program); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("two runs made two different programs")
	}
	cfg.Component.GoSum[0] = m.Path + " " + m.Version + " h1:AAAA"
	if err := Compile(t.Context(), cfg, epoch, t.Output()); !errors.Is(err, ErrChecksum) {
		t.Errorf("wrong checksum: %v, want unverifiable", err)
	}
}

func TestFilterDropsWholeLines(t *testing.T) {
	var out strings.Builder
	f := &filter{w: &out, drop: "go: downloading "}
	for _, s := range []string{"go: down", "loading a\nkept\ngo: ", "finding b\ngo: downloading c\nlast"} {
		if n, err := f.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "kept\ngo: finding b\nlast"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
