//go:build all

package faults

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// docker is a Docker daemon of the test's own.
type docker struct{ host string }

// startDocker starts a daemon that makes no network and touches no firewall.
func startDocker(t *testing.T) docker {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "dockerd", "docker")
	// A socket's path is short (unix(7)), and TempDir's is not.
	dir, err := os.MkdirTemp("", "nodesmith-docker-")
	if err != nil {
		t.Fatal(err)
	}
	d := docker{host: "unix://" + filepath.Join(dir, "s")}
	writeFile(t, filepath.Join(dir, "none"), []byte("{}")) // in place of the machine's own
	var log bytes.Buffer
	// It outlives t.Context, which ends before what the test has to clean up.
	daemon := exec.CommandContext(context.Background(), "dockerd", "--host="+d.host, "--data-root="+filepath.Join(dir, "data"),
		"--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"), "--config-file="+filepath.Join(dir, "none"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM) // ends its containers and its containerd
		_ = daemon.Wait()
		unmountBelow(t, dir) // the machine's network, which containers had
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("dockerd said:\n%s", log.String())
		}
	})
	testenv.Eventually(t, 2*time.Minute, func() error { return d.command(t.Context(), "version").Run() })
	return d
}

func (d docker) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), d.variable())
	return cmd
}

func (d docker) variable() string { return "DOCKER_HOST=" + d.host }

func (d docker) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// load loads nodesmith's own container image, and returns its name.
func (d docker) load(t *testing.T) string {
	t.Helper()
	out := d.must(t, "load", "--quiet", "--input", containerImage(t))
	_, name, ok := strings.Cut(out, "Loaded image: ")
	if !ok {
		t.Fatalf("docker load names no image: %s", out)
	}
	return name
}

// BuildKit's daemon runs in a container of nodesmith's own image, which has a runc.
func TestABuildKitInADockerContainerMakesTheSameImage(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	d := startDocker(t)
	name := d.load(t)
	// What --privileged gives of what steps need: some machines can't give all of it.
	args := []string{
		"run", "--detach", "--rm", "--network=none", "--name=builder", "--volume=/var/lib/buildkit", "--entrypoint=buildkitd",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
		"--device-cgroup-rule=a *:* rwm", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
	}
	for _, capability := range moreCapabilities {
		args = append(args, "--cap-add="+capability)
	}
	for _, program := range []string{"buildkitd", "buildctl"} {
		args = append(args, "--volume="+testenv.BuildKit(t, program)+":/usr/local/bin/"+program+":ro")
	}
	d.must(t, append(args, name, "--containerd-worker=false")...)
	t.Cleanup(func() {
		ctx := context.Background() // t.Context has ended
		if t.Failed() {
			out, _ := d.command(ctx, "logs", "builder").CombinedOutput()
			t.Logf("buildkitd said:\n%s", out)
		}
		if out, err := d.command(ctx, "stop", "--time=30", "builder").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	testenv.Eventually(t, 2*time.Minute, func() error {
		return d.command(t.Context(), "exec", "builder", "buildctl", "debug", "workers").Run()
	})
	b := newWhole(t, a)
	b.Engine = "docker-container://builder"
	b.must(t, d.variable())
	equalsWhole(t, b)
}
