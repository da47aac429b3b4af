package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// full builds the example with every field, once, on the lock of the day.
var full = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(built), "full")
	out, err := exec.Command(program, "build", "-f", "../examples/full.yaml", "-o", dir, "--progress", "quiet").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building the example with every field: %w\n%s", err, out)
	}
	return dir, err
})

// fullImage returns the disk of the example with every field.
func fullImage(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir, err := full()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "full-qemu.raw")
}

// fullLock returns a folder with the lock of that image alone.
func fullLock(t *testing.T) string {
	t.Helper()
	const name = "full.lock.yaml"
	lock, err := os.ReadFile(filepath.Join(filepath.Dir(fullImage(t)), name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheImageOfEveryFieldKeepsTheContract(t *testing.T) {
	r := must(t, "verify", fullImage(t), "--level", "contract", "--account", "ada")
	if !strings.Contains(r.out, " 0 failed, 0 warned") {
		t.Errorf("the contract says\n%s", r.out)
	}
}

// A changed script of the last point runs again with what lies behind it.
func TestAFinalScriptChangesNothingBelow(t *testing.T) {
	r := must(t, "build", "-f", "../examples/full.yaml", "-o", fullLock(t), "--locked", "--progress", "json",
		"--set", "spec.scripts[2]={name: tighten, when: final, content: 'echo "+time.Now().String()+" > /etc/changed'}")
	for _, step := range stepsRun(t, r.err) {
		if step != "scripts: tighten (final)" && step != "node: seal" && !strings.HasPrefix(step, "qemu: ") {
			t.Errorf("%q ran again", step)
		}
	}
}

func TestAScriptThatFailsEndsTheBuildWithItsNameAndOutput(t *testing.T) {
	r := nodesmith(t, "build", "-f", "../examples/full.yaml", "-o", fullLock(t), "--locked", "--progress", "quiet",
		"--set", "spec.scripts[2]={name: tighten, when: final, content: 'echo why >&2; exit 3'}")
	if r.exit != 8 || !strings.Contains(r.err, "\n  why\n") || !strings.Contains(r.err, `script "tighten" (final) ended with exit code 3`) {
		t.Errorf("exit code %d\n%s", r.exit, r.err)
	}
}

// Its disk is that of parts: file systems within each other.
func TestANodeOfEveryFieldBootsWithWhatTheSpecSays(t *testing.T) {
	dir := fullLock(t)
	testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	must(t, "build", "-f", "../examples/full.yaml", "-o", dir, "--locked", "--progress", "quiet",
		"--set", parts, "--set", "spec.vsphere.firmware=bios")
	image := filepath.Join(dir, "full-qemu.raw")
	script, err := os.ReadFile("testdata/full-node.sh")
	if err != nil {
		t.Fatal(err)
	}
	result, err := vmtest.Run(t.Context(), vmtest.RunOptions{
		Options:  vmtest.Options{Disk: vmtest.Disk{Path: image}, Firmware: vmtest.BIOS, CPUs: 2, MemoryMiB: 2048, Growth: 1 << 30},
		Deadline: 25 * time.Minute,
		Notify:   func(line string) { t.Log(line) },
	}, vmtest.ScriptOf("full-node.sh", script,
		vmtest.CheckInfo{ID: "boot", Proves: "systemd ran all jobs of the boot"},
		vmtest.CheckInfo{ID: "file-systems", Proves: "every file system of the spec is mounted"},
		vmtest.CheckInfo{ID: "accounts", Proves: "accounts and groups have the numbers of the spec"},
		vmtest.CheckInfo{ID: "units.disabled", Proves: "nothing starts a unit that the spec disables"},
		vmtest.CheckInfo{ID: "scripts.built", Proves: "scripts of the build left what they made"},
		vmtest.CheckInfo{ID: "scripts.first-boot", Proves: "the first boot ran its script, with its environment, into the journal"},
		vmtest.CheckInfo{ID: "scripts.order", Proves: "bootstrap data ran after it"},
		vmtest.CheckInfo{ID: "containerd.config", Proves: "containerd merged the spec's configuration with the node's"},
		vmtest.CheckInfo{ID: "containerd.mirror", Proves: "a mirror is asked before the registry"},
		vmtest.CheckInfo{ID: "containerd.exclusive", Proves: "an exclusive mirror stands for every other registry"},
		vmtest.CheckInfo{ID: "kubelet.unit", Proves: "kubelet's unit passes flags and the drop-in directory"},
		vmtest.CheckInfo{ID: "proxy", Proves: "containerd and kubelet know the proxy"},
		vmtest.CheckInfo{ID: "kubelet.config", Proves: "kubelet reads the drop-in after kubeadm's file"},
	))
	for _, check := range result.Checks {
		t.Logf("%s %s: %s", check.Status, check.ID, check.Evidence)
	}
	if err != nil || result.Verdict != vmtest.Pass {
		t.Errorf("verdict %s: %v", result.Verdict, err)
	}
}
