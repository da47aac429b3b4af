package step

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// pack makes name.deb in dir of the files, each with its own path as content.
func pack(t *testing.T, dir, name string, files ...string) {
	t.Helper()
	testenv.Need(t, "dpkg-deb")
	tree := t.TempDir()
	for path, text := range map[string]string{"DEBIAN/control": "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: x\n"} {
		write(t, filepath.Join(tree, path), text)
	}
	for _, path := range files {
		write(t, filepath.Join(tree, path), path)
	}
	if out, err := exec.Command("dpkg-deb", "-Zgzip", "--build", tree, filepath.Join(dir, name+".deb")).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUnpackMergesUsr(t *testing.T) {
	from, out := t.TempDir(), t.TempDir()
	var names []string
	for _, p := range []struct {
		name  string
		files []string
	}{
		{"libc6", []string{"lib/ld.so", "usr/lib/libc.so", "usr/share/doc/libc6/copyright"}},
		{"bash", []string{"bin/bash", "usr/bin/bashbug", "usr/share/doc/bash/copyright"}},
		{"mawk", []string{"usr/bin/mawk", "usr/share/doc/mawk/copyright"}},
	} {
		pack(t, from, p.name, p.files...)
		names = append(names, p.name+".deb")
	}
	links := map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/awk": "mawk"}
	if err := Unpack(t.Context(), UnpackConfig{Packages: names, From: from, Out: out, Links: links, Presets: map[string]string{"etc/kernel-img.conf": "a = b\n"}}, epoch); err != nil {
		t.Fatal(err)
	}
	for link, target := range links {
		if got, err := os.Readlink(filepath.Join(out, link)); err != nil || got != target {
			t.Errorf("%s -> %q, %v; want %q", link, got, err, target)
		}
	}
	for path, text := range map[string]string{"usr/lib/ld.so": "lib/ld.so", "usr/bin/bash": "bin/bash", "usr/bin/awk": "usr/bin/mawk", "lib/libc.so": "usr/lib/libc.so", "etc/kernel-img.conf": "a = b\n"} {
		if got, err := os.ReadFile(filepath.Join(out, path)); err != nil || string(got) != text {
			t.Errorf("%s holds %q, %v; want %q", path, got, err, text)
		}
	}
	if info, err := os.Stat(filepath.Join(out, "lib64")); err != nil || !info.IsDir() {
		t.Errorf("lib64 leads to %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(out, "DEBIAN")); err == nil {
		t.Error("control files are in the tree")
	}
}

// Many packages that write below the same directories at once.
func TestUnpackSeveralAtOnce(t *testing.T) {
	from, out := t.TempDir(), t.TempDir()
	var names []string
	for _, name := range strings.Split("aa bb cc dd ee ff gg hh ii jj kk ll", " ") {
		pack(t, from, name, "usr/share/deep/down/below/"+name, "bin/"+name)
		names = append(names, name+".deb")
	}
	if err := Unpack(t.Context(), UnpackConfig{Packages: names, From: from, Out: out, Links: map[string]string{"bin": "usr/bin"}}, epoch); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/share/deep/down/below", "usr/bin"} {
		if entries, err := os.ReadDir(filepath.Join(out, dir)); err != nil || len(entries) != len(names) {
			t.Errorf("%s holds %v, %v; want %d files", dir, entries, err, len(names))
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	from := t.TempDir()
	write(t, filepath.Join(from, "bad.deb"), "no archive")
	for name, test := range map[string]struct {
		config UnpackConfig
		want   string
	}{
		"what is no package":      {UnpackConfig{Packages: []string{"bad.deb"}, From: from, Out: t.TempDir()}, "unpacking bad.deb: not a .deb archive"},
		"a package not there":     {UnpackConfig{Packages: []string{"none.deb"}, From: from, Out: t.TempDir()}, "none.deb"},
		"a tree not there":        {UnpackConfig{From: from, Out: filepath.Join(from, "none")}, "none"},
		"a preset above the tree": {UnpackConfig{From: from, Out: t.TempDir(), Presets: map[string]string{"../passwd": "x"}}, "escapes"},
		"a link above the tree":   {UnpackConfig{From: from, Out: t.TempDir(), Links: map[string]string{"../bin": "usr/bin"}}, "escapes"},
		"a target above the tree": {UnpackConfig{From: from, Out: t.TempDir(), Links: map[string]string{"bin": "../usr"}}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Unpack(t.Context(), test.config, epoch); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestCleanRemovesWhatGlobsMatch(t *testing.T) {
	root := t.TempDir()
	in := func(path string) string { return filepath.Join(root, path) }
	for _, path := range []string{"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/sshd_config", "tmp/.hidden", "tmp/d/e", "run/x", "var/log/dpkg.log", "var/log/wtmp", "elsewhere/kept", "etc/machine-id"} {
		write(t, in(path), path)
	}
	if err := os.Symlink("../elsewhere", in("tmp/link")); err != nil {
		t.Fatal(err)
	}
	globs := []string{in("etc/ssh/ssh_host_*"), in("tmp/*"), in("run/*"), in("var/log/*.log"), in("usr/sbin/policy-rc.d")}
	empty := []string{in("etc/machine-id"), in("etc/new")}
	for range 2 { // what is clean stays so
		if err := clean(globs, empty); err != nil {
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
	if got, want := strings.Join(left, " "), "elsewhere/kept etc/machine-id etc/new etc/ssh/sshd_config var/log/wtmp"; err != nil || got != want {
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
	if err := clean([]string{"[a-"}, nil); err == nil || !strings.Contains(err.Error(), `pattern "[a-"`) {
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
	d := &dpkg{config: ConfigureConfig{From: "/debs", Exclude: []string{"/usr/share/doc/*"}, Include: []string{"/usr/share/doc/*/copyright"}}}
	if err := d.run(t.Context(), "--unpack", "a.deb", "b.deb"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(args)
	want := "--force-unsafe-io --force-confdef --force-confold --path-exclude=/usr/share/doc/* --path-include=/usr/share/doc/*/copyright --unpack /debs/a.deb /debs/b.deb No noninteractive C.UTF-8"
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
