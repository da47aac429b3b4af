//go:build all

package faults

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// containerImage makes the project's container image, as a file.
func containerImage(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.CommandContext(t.Context(), "../../scripts/container-image.sh", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// unpackedImage makes the project's container image, and returns a folder with its
// root file system, and the environment of its containers.
func unpackedImage(t *testing.T) (root string, environment []string) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "runc", "tar")
	image, err := tarball.ImageFromPath(containerImage(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	// TempDir's own is for its owner alone.
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(image)
	defer func() { _ = content.Close() }() // only read
	unpack := exec.CommandContext(t.Context(), "tar", "--extract", "--numeric-owner", "--same-permissions", "--xattrs", "--xattrs-include=*", "--directory", root)
	unpack.Stdin = content
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root, config.Config.Env
}

// letEnter opens a folder of the test's, and those above it, to all users.
func letEnter(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// dockersCapabilities are what Docker and containerd let a container's programs
// have.
var dockersCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// moreCapabilities are what steps need besides, where root runs them: to mount, and
// for a network of their own.
var moreCapabilities = []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}

// spec is root's container as `docker run --privileged` makes one.
func spec(root, dir string, environment, args []string) specs.Spec {
	all := slices.Concat(dockersCapabilities, moreCapabilities)
	return specs.Spec{
		Version: "1.0.2", Hostname: "container",
		Root: &specs.Root{Path: root},
		Process: &specs.Process{
			Args: args, Env: environment, Cwd: dir,
			Capabilities: &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
			Resources:  &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"mode=1777"}},
			{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind"}},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}},
			{Destination: dir, Type: "none", Source: dir, Options: []string{"rbind", "rw"}},
		},
	}
}

// The image's own programs carry out a build in a privileged container, whose cache
// and output lie on a volume.
func TestABuildInTheContainerImageMakesTheSameImage(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	root, environment := unpackedImage(t)
	b := newWhole(t, a)
	dir := filepath.Dir(b.Cache)
	letEnter(t, dir)
	b.start = func(t testing.TB, config []byte, variables []string) *exec.Cmd {
		writeFile(t, filepath.Join(dir, "build.json"), config)
		testenv.CopyFile(t, os.Args[0], filepath.Join(dir, "build"), 0o755)
		variables = append(variables, buildVariable+"="+filepath.Join(dir, "build.json"), "HOME=/work")
		made := spec(root, dir, append(environment, variables...), []string{filepath.Join(dir, "build")})
		text, err := json.Marshal(made)
		if err != nil {
			t.Fatal(err)
		}
		bundle := t.TempDir()
		writeFile(t, filepath.Join(bundle, "config.json"), text)
		return exec.CommandContext(t.Context(), "runc", "run", "--bundle", bundle, "nodesmith-"+strings.ToLower(filepath.Base(filepath.Dir(dir))))
	}
	b.must(t)
	equalsWhole(t, b)
}
