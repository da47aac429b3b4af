package step

import (
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
		testenv.WriteFile(t, filepath.Join(tree, path), text)
	}
	for _, path := range files {
		testenv.WriteFile(t, filepath.Join(tree, path), path)
	}
	if out, err := exec.Command("dpkg-deb", "-Zgzip", "--build", tree, filepath.Join(dir, name+".deb")).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
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
	testenv.WriteFile(t, filepath.Join(from, "bad.deb"), "no archive")
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
