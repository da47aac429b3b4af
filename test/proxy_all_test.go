//go:build all

package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/testenv/pyvenv"
)

// The two ends of the only cable of a machine that has nothing but a proxy
// (RFC 5737, TEST-NET-2: the first one is some sandboxes' own).
const (
	proxyAddress   = "198.51.100.1"
	machineAddress = "198.51.100.2"
	proxyPort      = "3128"
)

// Locking reads package archives, Go modules, the toolchain and the checksum
// database. On a machine whose only way out is a proxy that the spec names, all
// of it goes through the proxy, and what it locks is the same.
func TestAMachineBehindAProxyLocksTheSame(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "ip", "nsenter", "python3")
	namespace := machineBehind(t)
	seen := startProxy(t)
	there, here := t.TempDir(), t.TempDir()
	// Not by ip netns exec, which also hides the control groups that steps run in.
	behind := exec.CommandContext(t.Context(), "nsenter", "--net=/run/netns/"+namespace, program, "lock", "-f", example, "-o", there,
		"--progress", "plain", "--set", "spec.proxy.httpProxy=http://"+proxyAddress+":"+proxyPort,
		"--set", "spec.proxy.httpsProxy=http://"+proxyAddress+":"+proxyPort)
	behind.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	if out, err := behind.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, "lock", "-f", example, "-o", here)
	locks := make([][]byte, 2)
	for i, dir := range []string{there, here} {
		var err error
		if locks[i], err = os.ReadFile(filepath.Join(dir, "debian-12.lock.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(locks[0], locks[1]) {
		t.Error("the locks differ")
	}
	log := seen() // a line for each connection, which many requests share
	for _, want := range []string{"/InRelease", " CONNECT "} {
		if !strings.Contains(log, want) {
			t.Errorf("the proxy saw no %s in\n%s", want, log)
		}
	}
	t.Logf("%d requests and tunnels", strings.Count(log, "\n"))
}

// machineBehind makes a network namespace with one cable to this one and no
// route to anything else.
func machineBehind(t *testing.T) (namespace string) {
	t.Helper()
	namespace = fmt.Sprintf("nodesmith-%d", os.Getpid())
	outer, inner := fmt.Sprintf("nso%d", os.Getpid()%1e6), fmt.Sprintf("nsi%d", os.Getpid()%1e6)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	ip("netns", "add", namespace)
	t.Cleanup(func() {
		// The cable goes with its end in the namespace.
		if out, err := exec.Command("ip", "netns", "delete", namespace).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
	ip("address", "add", proxyAddress+"/30", "dev", outer)
	ip("link", "set", outer, "up")
	ip("-n", namespace, "address", "add", machineAddress+"/30", "dev", inner)
	ip("-n", namespace, "link", "set", inner, "up")
	ip("-n", namespace, "link", "set", "lo", "up")
	return namespace
}

// startProxy starts a proxy that somebody else wrote; seen returns its log.
func startProxy(t *testing.T) (seen func() string) {
	t.Helper()
	venv, err := pyvenv.Install("proxy", []byte("proxy.py==2.4.10\n"))
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "proxy.log")
	proxy := exec.Command(filepath.Join(venv, "bin/proxy"), "--hostname", proxyAddress, "--port", proxyPort,
		"--num-workers", "1", "--num-acceptors", "1", "--log-file", log, "--timeout", "600")
	proxy.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers end with it
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-proxy.Process.Pid, syscall.SIGKILL)
		_ = proxy.Wait()
	})
	testenv.Eventually(t, time.Minute, func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(proxyAddress, proxyPort), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return func() string {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
}
