package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// configured returns a tree with the full configuration.
func configured(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	target := plant(t, minimal)
	if err := apply(t, target, plant(t, map[string]string{"bin/tool": "#!/bin/sh\n"}), full); err != nil {
		t.Fatal(err)
	}
	return target
}

func seal(t *testing.T, target string, c node.Config) error {
	t.Helper()
	return Seal(t.Context(), Options{Target: target, Time: epoch, Log: t.Output()}, c)
}

func TestSealLeavesAConfiguredTreeAsItIs(t *testing.T) {
	target := configured(t)
	before := listing(t, target)
	if err := seal(t, target, full); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, target); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestSealRemovesWhatAScriptLeftAndKeepsWhatItChanged(t *testing.T) {
	target := configured(t)
	for name, content := range map[string]string{
		"tmp/x": "x", "var/log/apt/term.log": "x", "var/cache/apt/archives/x.deb": "x", "etc/ssh/ssh_host_ed25519_key": "x",
		"run/systemd/resolve/stub-resolv.conf": "", "root/.bash_history": "x",
		"etc/hostname": "changed\n", "srv/made": "x",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(target, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(target, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := seal(t, target, full); err != nil {
		t.Fatal(err)
	}
	after := listing(t, target)
	for _, gone := range []string{"/tmp/x", "/term.log", "x.deb", "ssh_host_ed25519_key", "stub-resolv.conf 1", ".bash_history"} {
		if strings.Contains(after, gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, kept := range []string{
		`/etc/hostname 100640 0:0 `, `"changed\n"`, "/srv/made ", "/home/ada/.ssh/authorized_keys ", "/root/.ssh/authorized_keys ",
		`/etc/resolv.conf 120777 0:0 `,
	} {
		if !strings.Contains(strings.ReplaceAll(after, "100644", "100640"), kept) {
			t.Errorf("%s is gone", kept)
		}
	}
}

func TestSealFindsAccountsAndPasswordsOfAScript(t *testing.T) {
	for name, test := range map[string]struct{ file, line, want string }{
		"account":    {"etc/passwd", "bob:x:1001:1001::/home/bob:/bin/bash\n", "the account bob (uid 1001) is a person's and nobody asked for it"},
		"password":   {"etc/shadow", "bob:$6$x:20000::::::\n", "the account bob has a password"},
		"machine id": {"etc/machine-id", "0123456789abcdef0123456789abcdef\n", "/etc/machine-id holds an id"},
	} {
		t.Run(name, func(t *testing.T) {
			target := configured(t)
			file, err := os.OpenFile(filepath.Join(target, test.file), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteString(test.line); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			if err := seal(t, target, full); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
