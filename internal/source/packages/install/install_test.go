package install

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestResetGivesAnotherContentToFilesThatAreThere(t *testing.T) {
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "initiatorname.iscsi"), filepath.Join(dir, "missing")
	if err := os.WriteFile(there, []byte("## keep\nInitiatorName=iqn.1993-08.org.debian:01:bff4d5124679\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reset(map[string]string{there: "GenerateName=yes\n", missing: "x"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(there)
	if err != nil || string(content) != "GenerateName=yes\n" {
		t.Errorf("content %q, %v", content, err)
	}
	if info, err := os.Stat(there); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	if _, err := os.Lstat(missing); !os.IsNotExist(err) {
		t.Errorf("the missing file: %v", err)
	}
	if err := reset(map[string]string{dir: "x"}); err == nil {
		t.Error("a directory was given content")
	}
}

func TestCleanRemovesWhatGlobsMatch(t *testing.T) {
	root := t.TempDir()
	in := func(path string) string { return filepath.Join(root, path) }
	for _, path := range []string{"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/ssh_host_kept", "etc/ssh/sshd_config", "tmp/.hidden", "tmp/d/e", "run/x", "var/log/dpkg.log", "var/log/wtmp", "elsewhere/kept", "etc/machine-id"} {
		testenv.WriteFile(t, in(path), path)
	}
	if err := os.Symlink("../elsewhere", in("tmp/link")); err != nil {
		t.Fatal(err)
	}
	globs := []string{in("etc/ssh/ssh_host_*"), in("tmp/*"), in("run/*"), in("var/log/*.log"), in("usr/sbin/policy-rc.d")}
	empty := []string{in("etc/machine-id"), in("etc/new")}
	for range 2 { // what is clean stays so
		if err := clean(globs, []string{in("etc/ssh/ssh_host_kept")}, empty); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(root, path)
			left = append(left, name)
		}
		return err
	})
	if got, want := strings.Join(left, " "), "elsewhere/kept etc/machine-id etc/new etc/ssh/ssh_host_kept etc/ssh/sshd_config var/log/wtmp"; err != nil || got != want {
		t.Errorf("left: %s (%v)\nwant: %s", got, err, want)
	}
	for _, path := range empty {
		if info, err := os.Stat(path); err != nil || info.Size() != 0 {
			t.Errorf("%s: %v, %v; want it empty", path, info, err)
		}
	}
	for _, dir := range []string{"tmp", "run"} {
		if _, err := os.Stat(in(dir)); err != nil {
			t.Errorf("the directory itself is gone: %v", err)
		}
	}
	if err := clean([]string{"[a-"}, nil, nil); err == nil || !strings.Contains(err.Error(), `pattern "[a-"`) {
		t.Errorf("a pattern that is none: error %v", err)
	}
}

// program puts a shell script in place of a program for the test.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestAuditFailsOnHalfInstalledPackages(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"all is well":      {"exit 0", ""},
		"something is not": {"echo bash is half configured", "packages are not fully installed:\nbash is half configured"},
		"it fails":         {"echo no status >&2; exit 2", "exit status 2\nno status"},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, "dpkg", test.script)
			err := audit(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestDpkgIsToldWherePackagesAreAndWhatToLeaveOut(t *testing.T) {
	args := filepath.Join(t.TempDir(), "args")
	program(t, "dpkg", `printf '%s\n' "$@" "$INITRD $DEBIAN_FRONTEND $LC_ALL" > `+args)
	d := &dpkg{config: Config{From: "/debs", Exclude: []string{"/usr/share/doc/*"}, Include: []string{"/usr/share/doc/*/copyright"}}, unpacked: map[string]string{"c": "c"}}
	if err := d.unpack(t.Context(), []Package{{"a", "a.deb"}, {"c", "c.deb"}, {"b", "b.deb"}}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(args)
	want := "--abort-after=1 --force-unsafe-io --force-confdef --force-confold --path-exclude=/usr/share/doc/* --path-include=/usr/share/doc/*/copyright --unpack --force-depends /debs/a.deb /debs/b.deb No noninteractive C.UTF-8"
	if words := strings.Join(strings.Split(strings.TrimSpace(string(got)), "\n"), " "); err != nil || words != want {
		t.Errorf("dpkg got %s (%v)\nwant %s", words, err, want)
	}
}

func TestAFailingProgramIsNamedWithItsFirstArguments(t *testing.T) {
	err := run(t.Context(), nil, "false", "1", "2", "3", "4", "5", "6", "7")
	if err == nil || !strings.Contains(err.Error(), "false 1 2 3 4 5 6 ...: exit status 1") {
		t.Errorf("error %v", err)
	}
}
