package containerimage

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// kubeadmImages is what kubeadm v1.34.0 asks for.
var kubeadmImages = []lock.ContainerImage{
	{Name: "registry.k8s.io/kube-apiserver:v1.34.0", Component: "kube-apiserver"},
	{Name: "registry.k8s.io/kube-controller-manager:v1.34.0", Component: "kube-controller-manager"},
	{Name: "registry.k8s.io/kube-scheduler:v1.34.0", Component: "kube-scheduler"},
	{Name: "registry.k8s.io/kube-proxy:v1.34.0", Component: "kube-proxy"},
	{Name: "registry.k8s.io/coredns/coredns:v1.12.1", Component: "coredns"},
	{Name: "registry.k8s.io/pause:3.10.1", Component: "pause"},
	{Name: "registry.k8s.io/etcd:3.6.4-0", Component: "etcd"},
}

// sameBinary stands for every program that the images hold.
func sameBinary(program string) map[string]string {
	binaries := map[string]string{}
	for _, c := range components {
		for _, p := range c.programs {
			binaries[p] = program
		}
	}
	return binaries
}

// hostLibraries copies a dynamically linked program of this machine and what
// it loads into a tree, under the names that Debian 13's packages have.
func hostLibraries(t *testing.T, tree string, programs ...string) {
	t.Helper()
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(tree, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range programs {
		put(shell, p)
	}
	file, err := elf.Open(shell)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			loader := make([]byte, p.Filesz-1)
			if _, err := p.ReadAt(loader, 0); err != nil {
				t.Fatal(err)
			}
			put(string(loader), "usr"+string(loader))
			put(string(loader), filepath.Join("usr/lib", triplets[file.Machine], filepath.Base(string(loader))))
		}
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		put(filepath.Join("/lib", triplets[file.Machine], l), filepath.Join("usr/lib", triplets[file.Machine], l))
	}
}

// fakeImageBase is a tree that has what Kubeadm's configuration names.
func fakeImageBase(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	certificates := filepath.Join(tree, "usr/share/ca-certificates/mozilla")
	if err := os.MkdirAll(certificates, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"B.crt", "A.crt"} {
		if err := os.WriteFile(filepath.Join(certificates, name), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hostLibraries(t, tree, "usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/bin/kmod")
	return tree
}

func TestKubeadmConfigSurvivesJSON(t *testing.T) {
	cfg, err := Kubeadm(kubeadmImages, Inputs{Binaries: sameBinary("/in/x"), ImageBase: "/base"}, "amd64", "/out")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var read Config
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, read) {
		t.Errorf("wrote %+v, read %+v", cfg, read)
	}
}

func TestUnknownComponentIsABadSpec(t *testing.T) {
	_, err := Kubeadm([]lock.ContainerImage{{Name: "example.com/x:v1", Component: "x"}}, Inputs{}, "amd64", "/out")
	if fault.KindOf(err) != fault.BadSpec {
		t.Errorf("got %v (%s)", err, fault.KindOf(err))
	}
}

func TestFileCapabilitiesAreThoseOfSetcap(t *testing.T) {
	// getfattr -e hex after setcap cap_net_bind_service+ep (libcap 2.66).
	want := []byte{0x01, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if got := fileCapabilities(capNetBindService); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestKubeadmImagesAreWhatPodsExpect(t *testing.T) {
	testenv.NeedRoot(t)
	output := t.TempDir()
	cfg, err := Kubeadm(kubeadmImages, Inputs{Binaries: sameBinary("/bin/true"), ImageBase: fakeImageBase(t)}, runtime.GOARCH, output)
	if err != nil {
		t.Fatal(err)
	}
	if done := assemble(t, cfg); len(done) != len(kubeadmImages) {
		t.Fatalf("%d images", len(done))
	}
	snapshots, _ := filepath.Glob(filepath.Join(output, storeRoot, snapshotsDir, "snapshots/*/fs"))
	// base, netfilter, kube-proxy, and one each for five components and pause.
	if len(snapshots) != 9 {
		t.Errorf("%d snapshots, want 9: layers that images share are there once", len(snapshots))
	}
	all := strings.Join(listing(t, filepath.Join(output, storeRoot, snapshotsDir, "snapshots")), "\n")
	for _, want := range []string{
		"/fs/coredns 100755 0:0", "/fs/pause 100755 0:0", "/fs/tmp 41777 0:0", "/fs/home/nonroot 40700 65532:65532",
		"0100000200040000000000000000000000000000", "/fs/usr/local/bin/etcdutl 100755",
		"/fs/usr/sbin/iptables-restore 120777 0:0 0 1767323045 xtables-nft-multi", "/fs/lib64 120777 0:0 0 1767323045 usr/lib64",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in the snapshots", want)
		}
	}
	bundle, err := os.ReadFile(filepath.Join(output, storeRoot, snapshotsDir, "snapshots/1/fs/etc/ssl/certs/ca-certificates.crt"))
	if err != nil || string(bundle) != "A.crt\nB.crt\n" {
		t.Errorf("certificates are %q, %v", bundle, err)
	}
}

func TestMissingLibraryIsNamed(t *testing.T) {
	for _, missing := range []string{"libc.so.6", "ld-linux-x86-64.so.2"} {
		if runtime.GOARCH != "amd64" && strings.HasPrefix(missing, "ld-") {
			continue
		}
		tree := fakeImageBase(t)
		for _, dir := range []string{"usr/lib64", "usr/lib/" + triplets[elf.EM_X86_64], "usr/lib/" + triplets[elf.EM_AARCH64]} {
			os.Remove(filepath.Join(tree, dir, missing))
		}
		_, err := collect(Inputs{ImageBase: tree}.netfilter())
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("got %v, want an error with %s", err, missing)
		}
	}
}
