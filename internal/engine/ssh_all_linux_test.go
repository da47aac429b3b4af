//go:build all

package engine

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/engine/enginetest"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// sshServer runs OpenSSH's server on this machine, with keys and a configuration
// of its own, and lets this test's `ssh` in. It returns HOST:PORT.
func sshServer(t *testing.T, dir string) (address string) {
	t.Helper()
	testenv.Need(t, "sshd", "ssh", "ssh-keygen")
	u, err := url.Parse(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path(key)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(path("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write("known_hosts", fmt.Sprintf("[%s]:%s %s", u.Hostname(), u.Port(), public), 0o600)
	// What the other side runs is found as on any host: on its PATH.
	if err := os.Symlink(testenv.BuildKit(t, "buildctl"), path("buildctl")); err != nil {
		t.Fatal(err)
	}
	write("sshd_config", fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\n"+
		"PermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv PATH=%s:/usr/bin:/bin\n",
		u.Hostname(), u.Port(), path("host"), path("user.pub"), dir), 0o600)
	write("ssh_config", fmt.Sprintf("BatchMode yes\nIdentityFile %s\nIdentitiesOnly yes\nUserKnownHostsFile %s\nStrictHostKeyChecking yes\n",
		path("user"), path("known_hosts")), 0o600)
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	// As if the lines stood in the user's own configuration.
	programs := path("programs")
	if err := os.Mkdir(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	write("programs/ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", real, path("ssh_config")), 0o755)
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	serve(t, path("sshd_config"))
	return u.Host
}

// serve runs the server until the test ends.
func serve(t *testing.T, config string) {
	t.Helper()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it gives up its privileges
		t.Fatal(err)
	}
	program, err := exec.LookPath("sshd") // it wants its full path
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(config + ".log")
	if err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(context.Background(), program, "-D", "-e", "-f", config)
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("sshd:\n%s", text)
		}
		_ = log.Close()
	})
}

func TestAnEngineBehindSSHMakesTheSameDisk(t *testing.T) {
	f := newFixture(t)
	want := f.mapped(t)
	daemon := enginetest.Start(t, filepath.Join(f.dir, "daemon"))
	remote := Remote{Address: "ssh://root@" + sshServer(t, t.TempDir()) + daemon.Socket}
	var e *Engine
	testenv.Eventually(t, time.Minute, func() (err error) { // until sshd listens
		e, err = f.remote(t, remote, nil)
		return err
	})
	out := t.TempDir()
	if err := e.Export(t.Context(), "through SSH", f.packed(t), out); err != nil {
		t.Fatal(err)
	}
	if got := unpacked(t, filepath.Join(out, "disk.packed")); got != want {
		t.Errorf("disk of %s, want %s", got, want)
	}
}
