package containerimage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// daemonsVariable names directories (separated by colons) with other versions
// of containerd, ctr and containerd-shim-runc-v2 to judge stores with, besides
// those on PATH.
const daemonsVariable = "NODESMITH_TEST_CONTAINERD_DIRS"

// daemon is a real containerd on a store that the test wrote.
type daemon struct {
	programs string // directory, or "" for PATH
	socket   string
	end      func()
}

// startDaemon runs containerd on output's store until the test ends.
func startDaemon(t *testing.T, programs, output string) daemon {
	t.Helper()
	state := t.TempDir()
	d := daemon{programs: programs, socket: filepath.Join(state, "s")}
	config := filepath.Join(state, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(output, storeRoot), filepath.Join(state, "state"), d.socket, d.socket+".ttrpc")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, d.program("containerd"), "--config", config)
	cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.end = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // interrupted
	})
	t.Cleanup(func() {
		d.end()
		if t.Failed() {
			t.Logf("containerd said:\n%s", log.String())
		}
	})
	testenv.Eventually(t, 30*time.Second, func() error {
		return exec.Command(d.program("ctr"), "-a", d.socket, "version").Run()
	})
	return d
}

// stop ends the daemon, so that its store can be read.
func (d daemon) stop(t *testing.T) {
	t.Helper()
	d.end()
}

// program returns the path of one of the daemon's programs.
func (d daemon) program(name string) string {
	if d.programs == "" {
		return name
	}
	return filepath.Join(d.programs, name)
}

// ctr runs ctr in the namespace of Kubernetes and returns what it printed.
func (d daemon) ctr(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program("ctr"), append([]string{"-a", d.socket, "-n", namespace}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("ctr %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// eachDaemon runs a test once for every containerd that this machine has.
func eachDaemon(t *testing.T, test func(t *testing.T, programs string)) {
	testenv.NeedRoot(t)
	testenv.Need(t, "containerd", "ctr", "runc", "go")
	for _, dir := range append([]string{""}, filepath.SplitList(os.Getenv(daemonsVariable))...) {
		version, err := exec.Command(filepath.Join(dir, "containerd"), "--version").Output()
		if dir == "" {
			version, err = exec.Command("containerd", "--version").Output()
		}
		if err != nil {
			t.Fatalf("containerd --version of %q: %v", dir, err)
		}
		t.Run(strings.Fields(string(version))[2], func(t *testing.T) { test(t, dir) })
	}
}

// buildHello compiles a static program that proves that it runs in its image.
func buildHello(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := `package main

import (
	"fmt"
	"os"
)

func main() {
	one, err := os.ReadFile("/etc/one")
	fmt.Print("hello as ", os.Getuid(), " in ", os.Getenv("WHERE"), ": ", string(one))
	if err != nil {
		os.Exit(1)
	}
	if _, err := os.Stat("/etc/secret"); err == nil {
		os.Exit(2)
	}
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-buildid=", "-o", "hello", "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "hello")
}

func TestRealDaemonRunsAssembledImage(t *testing.T) {
	eachDaemon(t, func(t *testing.T, programs string) {
		output := t.TempDir()
		cfg := treeConfig(makeTree(t), output)
		cfg.Layers = append(cfg.Layers, Layer{Name: "hello", Files: []File{{From: buildHello(t), To: "/hello", Mode: 0o755}}})
		cfg.Layers[1].Files[0].Mode = 0o644
		cfg.Images = append(cfg.Images, Image{
			Name: "example.com/hello:v1", Layers: []string{"one", "hello"},
			Entrypoint: []string{"/hello"}, Env: []string{"WHERE=an image"}, User: "1234:1234",
		})
		done := assemble(t, cfg)
		d := startDaemon(t, programs, output)
		checkDaemonSees(t, d, done)

		// Whatever no label holds on to would go now.
		d.ctr(t, "content", "prune", "references")
		checkDaemonSees(t, d, done)

		got := d.ctr(t, "run", "--rm", "example.com/hello:v1", "hello1")
		if want := "hello as 1234 in an image: one\n"; got != want {
			t.Errorf("the container said %q, want %q", got, want)
		}
	})
}

// checkDaemonSees asks the daemon for every image, name and snapshot.
func checkDaemonSees(t *testing.T, d daemon, images []Assembled) {
	t.Helper()
	checked := d.ctr(t, "images", "check")
	labels := d.ctr(t, "images", "ls")
	for _, img := range images {
		repository := img.Name[:strings.LastIndex(img.Name, ":")]
		for _, name := range []string{img.Name, repository + "@" + img.Manifest.Digest.String(), img.Config} {
			line := lineOf(checked, name)
			if !strings.Contains(line, "complete (") || !strings.HasSuffix(strings.TrimSpace(line), "true") {
				t.Errorf("image %s is not complete and unpacked: %q", name, line)
			}
			line = lineOf(labels, name)
			for _, label := range []string{"io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned", img.Manifest.Digest.String(), "linux/" + runtime.GOARCH} {
				if !strings.Contains(line, label) {
					t.Errorf("image %s: no %s in %q", name, label, line)
				}
			}
		}
	}
	if n := strings.Count(checked, "\n") - 1; n != 3*len(images) {
		t.Errorf("%d names for %d images:\n%s", n, len(images), checked)
	}
	if leases := d.ctr(t, "leases", "ls", "-q"); leases != "" {
		t.Errorf("leases are left: %s", leases)
	}
	snapshots := d.ctr(t, "snapshots", "ls")
	if strings.Contains(snapshots, "Active") || !strings.Contains(snapshots, "Committed") {
		t.Errorf("snapshots:\n%s", snapshots)
	}
}

// lineOf returns the line that begins with word.
func lineOf(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, word+" ") {
			return line
		}
	}
	return ""
}
