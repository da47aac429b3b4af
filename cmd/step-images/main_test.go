package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// sandboxCapabilities are Docker's defaults, which a step of the build graph
// has. CAP_SYS_ADMIN, and with it mount(2), is not among them.
const sandboxCapabilities = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap," +
	"+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"

// TestMain lets the test binary be the step itself.
func TestMain(m *testing.M) {
	if os.Getenv("STEP_IMAGES_MAIN") == "1" {
		os.Unsetenv("STEP_IMAGES_MAIN")
		main()
		return
	}
	os.Exit(m.Run())
}

// step runs the step with the capabilities of the sandbox and without network.
func step(t *testing.T, epoch string, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--net", "setpriv",
		"--bounding-set", sandboxCapabilities, "--inh-caps", "-all", self}, args...)...)
	cmd.Env = append(os.Environ(), "STEP_IMAGES_MAIN=1", "SOURCE_DATE_EPOCH="+epoch)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeConfig writes a configuration whose layers need every privilege that
// the step may use.
func writeConfig(t *testing.T, output string) string {
	t.Helper()
	tree := t.TempDir()
	if err := unix.Mknod(filepath.Join(tree, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "private"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(tree, "private"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	data, err := json.Marshal(containerimage.Config{
		Output: output, Architecture: runtime.GOARCH,
		Layers: []containerimage.Layer{
			{Name: "tree", Trees: []containerimage.Tree{{From: tree, To: "/"}}},
			{Name: "app", Files: []containerimage.File{
				{Content: "x", To: "/app", Mode: 0o755, Xattrs: map[string][]byte{"security.capability": capability}},
				{To: "/.wh.null", Mode: 0o644},       // a whiteout
				{To: "/d/.wh..wh..opq", Mode: 0o644}, // an opaque directory
			}},
		},
		Images: []containerimage.Image{{Name: "example.com/app:v1", Layers: []string{"tree", "app"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestStepWorksWithSandboxCapabilities(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "setpriv", "unshare")
	output := t.TempDir()
	out, err := step(t, "1767323045", "store", writeConfig(t, output))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"layer tree: ", "image example.com/app:v1: sha256:"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output:\n%s", want, out)
		}
	}
	snapshots := filepath.Join(output, "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(snapshots, "2/fs/null"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout of /null: %v, mode %o, device %x", err, st.Mode, st.Rdev)
	}
	if n, err := unix.Lgetxattr(filepath.Join(snapshots, "2/fs/app"), "security.capability", nil); err != nil || n != 20 {
		t.Errorf("file capability of /app: %d bytes, %v", n, err)
	}
}

func TestStepSaysWhatIsWrongAndExitsWithOne(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "setpriv", "unshare")
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"output": "out", "architecture": "amd64", "images": [{"name": "x", "layers": ["y"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		epoch string
		args  []string
		want  string
	}{
		{"1", nil, "usage: step-images ask|store"},
		{"", []string{"store", broken}, "SOURCE_DATE_EPOCH"},
		{"1", []string{"store", broken}, `no layer "y"`},
		{"1", []string{"store", "/does/not/exist"}, "/does/not/exist"},
	} {
		out, err := step(t, c.epoch, c.args...)
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v, want exit code 1 and %q in\n%s", c.args, err, c.want, out)
		}
	}
}
