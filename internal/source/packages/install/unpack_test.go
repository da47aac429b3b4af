package install

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/source/packages/step"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// source is a package that a test makes.
type source struct {
	name   string
	fields string            // further fields of the control file
	files  map[string]string // path -> content; DEBIAN/ too
	shape  func(tree string) error
}

// pack makes the package files in a folder of their own and returns their names.
func pack(t *testing.T, sources []source) (from string, names []string) {
	t.Helper()
	from = t.TempDir()
	for _, d := range sources {
		tree := filepath.Join(t.TempDir(), d.name)
		control := "Package: " + d.name + "\nVersion: 1:2-3\nMaintainer: N <n@example.org>\n" + d.fields + "Description: a package\n of a test\n"
		if !strings.Contains(d.fields, "Architecture:") {
			control = strings.Replace(control, "Maintainer", "Architecture: all\nMaintainer", 1)
		}
		testenv.WriteFile(t, filepath.Join(tree, "DEBIAN/control"), control)
		for _, name := range slices.Sorted(maps.Keys(d.files)) {
			path := filepath.Join(tree, name)
			testenv.WriteFile(t, path, d.files[name])
			if strings.HasSuffix(name, "inst") {
				if err := os.Chmod(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d.files["DEBIAN/md5sums"] == "" && d.name != "unsummed" {
			testenv.WriteFile(t, filepath.Join(tree, "DEBIAN/md5sums"), "d41d8cd98f00b204e9800998ecf8427e  usr/bin/any\n")
		}
		if d.shape != nil {
			if err := d.shape(tree); err != nil {
				t.Fatal(err)
			}
		}
		made(t, "dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, filepath.Join(from, d.name+".deb"))
		names = append(names, d.name+".deb")
	}
	return from, names
}

// made runs a program that has to succeed, and returns what it printed.
func made(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// dpkgIn runs the host's dpkg on a tree, which has the files that it starts from.
func dpkgIn(t *testing.T, tree string, args ...string) string {
	t.Helper()
	for _, dir := range []string{infoDir, triggersDir, adminDir + "/updates"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"status", "available"} {
		file, err := os.OpenFile(filepath.Join(tree, adminDir, name), os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	options := []string{"--root=" + tree, "--force-script-chrootless", "--force-depends", "--log=/dev/null"}
	for _, pattern := range filters.Exclude {
		options = append(options, "--path-exclude="+pattern)
	}
	for _, pattern := range filters.Include {
		options = append(options, "--path-include="+pattern)
	}
	return made(t, "dpkg", append(options, args...)...)
}

var filters = step.UnpackConfig{
	Exclude: []string{"/usr/share/doc/*", "/usr/share/man/*"}, Include: []string{"/usr/share/doc/*/copyright"},
}

// describe returns a line for each file of a tree: what it is, and what it holds.
// Times are those of what packages bring.
func describe(t *testing.T, tree string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(tree, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(name, "-old"), strings.HasSuffix(name, "/lock"), strings.HasSuffix(name, "/lock-frontend"), name == triggersDir+"/Lock":
			return nil // dpkg's own business
		case name == triggersDir+"/Unincorp", name == infoDir+"/format":
			return nil // there or empty, according to what ran
		}
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %d:%d", info.Mode(), stat.Uid, stat.Gid)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text := string(data)
			if strings.HasPrefix(name, triggersDir+"/") { // dpkg turns them round when it writes them anew
				text = strings.Join(slices.Sorted(strings.Lines(text)), "")
			}
			if written := strings.HasPrefix(name, adminDir) && (filepath.Ext(name) == ".list" || name == infoDir+"/unsummed.md5sums" || !strings.HasPrefix(name, infoDir)); !written {
				line += info.ModTime().UTC().Format(" 2006-01-02T15:04:05")
			}
			line += fmt.Sprintf(" links %d: %s", stat.Nlink, text)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// same compares the trees and says what is not.
func same(t *testing.T, when, ours, dpkgs string) {
	t.Helper()
	got, want := describe(t, ours), describe(t, dpkgs)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %s\n  is   %q\n  want %q", when, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is there: %q", when, name, got[name])
		}
	}
}

// everything is one package of each kind.
var everything = []source{
	{name: "plain", fields: "Section: misc\nPriority: optional\nHomepage: https://example.org\n", files: map[string]string{
		"usr/bin/plain": "#!/bin/sh\n", "usr/share/doc/plain/copyright": "free\n", "usr/share/doc/plain/README": "text\n", "usr/share/man/man1/plain.1": "x",
	}, shape: func(tree string) error {
		for link, target := range map[string]string{"usr/share/man/man1/p.1": "plain.1", "usr/share/doc/plain/link": "README", "usr/bin/p": "plain", "usr/dangling": "/nowhere"} {
			if err := os.Symlink(target, filepath.Join(tree, link)); err != nil {
				return err
			}
		}
		if err := os.Link(filepath.Join(tree, "usr/bin/plain"), filepath.Join(tree, "usr/bin/hard")); err != nil {
			return err
		}
		return os.Chmod(filepath.Join(tree, "usr/bin/plain"), 0o755|fs.ModeSetuid)
	}},
	{name: "libshared1", fields: "Architecture: amd64\nMulti-Arch: same\nDepends: plain (>= 1)\n", files: map[string]string{
		"usr/lib/x86_64-linux-gnu/libshared.so.1": "ELF", "DEBIAN/triggers": "# of libraries\nactivate-noawait ldconfig\n", "DEBIAN/shlibs": "libshared 1 libshared1\n",
		"DEBIAN/md5sums": "0123  usr/lib/x86_64-linux-gnu/libshared.so.1\n",
	}},
	{name: "settings", fields: "Essential: yes\n", files: map[string]string{
		"etc/settings.conf": "a = b\n", "etc/settings.d/z": "1\n", "etc/settings.d/a": "2\n", "etc/no-conffile": "3\n",
		"DEBIAN/conffiles": "/etc/settings.d/z\n/etc/settings.conf\n/etc/settings.d/a\n",
	}},
	{name: "waits", files: map[string]string{
		"usr/share/waits/x": "x", "DEBIAN/triggers": "interest-noawait /usr/share/hooks\ninterest named\ninterest-await /usr/share/others\n",
	}},
	{name: "awaited", files: map[string]string{"usr/share/hooks/y": "y", "DEBIAN/triggers": "activate named\ninterest-noawait named\n"}},
	{name: "first", files: map[string]string{"usr/share/first": "1", "DEBIAN/preinst": "#!/bin/sh\nexit 0\n", "etc/first": "2", "DEBIAN/conffiles": "/etc/first\n"}},
	{name: "obsolete", files: map[string]string{"usr/share/obsolete": "1", "DEBIAN/conffiles": "remove-on-upgrade /etc/gone\n"}},
	{name: "unsummed", files: map[string]string{"usr/share/unsummed": "1"}},
	{name: "whole", fields: "Breaks: part (<< 1)\n", files: map[string]string{"usr/share/both": "whole's", "usr/share/whole": "w"}},
	{name: "part", fields: "Replaces: whole\n", files: map[string]string{"usr/share/both": "part's", "usr/share/part": "p"}},
}

func TestUnpackedAsDpkgUnpacks(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "dpkg", "dpkg-deb")
	from, names := pack(t, everything)
	ours, dpkgs := t.TempDir(), t.TempDir()
	config := UnpackConfig{UnpackConfig: filters}
	config.From, config.Out, config.Packages = from, ours, names
	if err := Unpack(t.Context(), config, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"usr/share/obsolete", "usr/share/unsummed", "usr/share/both", "usr/share/whole", "usr/share/part"} {
		if _, err := os.Lstat(filepath.Join(ours, left)); err == nil {
			t.Errorf("%s is there before dpkg unpacks its package", left)
		}
	}
	unpacked := strings.Fields("plain.deb libshared1.deb settings.deb waits.deb awaited.deb first.deb")
	for _, args := range [][]string{unpacked, names[len(unpacked):]} {
		for i := range args {
			args[i] = filepath.Join(from, args[i])
		}
	}
	dpkgIn(t, dpkgs, append([]string{"--unpack"}, unpacked...)...)
	// dpkg writes the status anew, in its own order of fields.
	left := append([]string{"--unpack"}, names[len(unpacked):]...)
	dpkgIn(t, dpkgs, left...)
	dpkgIn(t, ours, left...)
	same(t, "unpacked", ours, dpkgs)
	for _, tree := range []string{ours, dpkgs} {
		dpkgIn(t, tree, "--configure", "--pending")
		if out := made(t, "dpkg", "--root="+tree, "--audit"); out != "" {
			t.Errorf("dpkg --audit: %s", out)
		}
	}
	same(t, "configured", ours, dpkgs)
	if content, err := os.ReadFile(filepath.Join(ours, "usr/share/both")); string(content) != "part's" {
		t.Errorf("the file of two packages: %q, %v", content, err)
	}
}

// Files that it takes to run dpkg are there whatever becomes of their packages.
func TestGroundPackagesAreThereThoughLeftToDpkg(t *testing.T) {
	from, names := pack(t, []source{
		{name: "unsummed", files: map[string]string{"lib/libc.so": "c", "etc/ld.so.conf": "d", "DEBIAN/conffiles": "/etc/ld.so.conf\n"}},
		{name: "dash", files: map[string]string{"bin/sh": "dash", "usr/share/same": "1"}},
		{name: "bash", files: map[string]string{"usr/share/same": "2", "usr/share/bash": "3"}},
	})
	out := t.TempDir()
	config := UnpackConfig{Ground: []string{"unsummed.deb", "dash.deb"}}
	config.From, config.Out, config.Packages = from, out, names
	config.Links = map[string]string{"lib": "usr/lib", "bin": "usr/bin"}
	if err := Unpack(t.Context(), config, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"usr/lib/libc.so": true, "etc/ld.so.conf": true, "usr/bin/sh": true, "usr/share/same": true, "usr/share/bash": false,
	} {
		if _, err := os.Lstat(filepath.Join(out, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
	if status, err := os.ReadFile(filepath.Join(out, adminDir, "status")); err != nil || len(status) > 0 {
		t.Errorf("dpkg knows of %q (%v): all packages are left to it", status, err)
	}
}

// A merged /usr gives one file two names.
func TestPackagesWithAFileInCommonThroughAMergedUsrAreLeftToDpkg(t *testing.T) {
	from, names := pack(t, []source{
		{name: "kmod", files: map[string]string{"sbin/modprobe": "1"}},
		{name: "busybox", files: map[string]string{"usr/sbin/modprobe": "2"}},
		{name: "other", files: map[string]string{"sbin/other": "3"}},
	})
	out := t.TempDir()
	config := UnpackConfig{}
	config.From, config.Out, config.Packages = from, out, names
	config.Links = map[string]string{"sbin": "usr/sbin"}
	if err := Unpack(t.Context(), config, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(out, adminDir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	known, err := unpackedIn(file)
	if got := slices.Sorted(maps.Keys(known)); err != nil || !slices.Equal(got, []string{"other"}) {
		t.Errorf("unpacked: %q, %v; want only the one that shares nothing", got, err)
	}
	if entries, err := os.ReadDir(filepath.Join(out, "usr/sbin")); err != nil || len(entries) != 1 {
		t.Errorf("usr/sbin holds %v, %v", entries, err)
	}
}

func TestAPackageThatSaysNothingOfItselfIsRefused(t *testing.T) {
	for _, control := range []string{"", "Version: 1\n", "Package: ../../etc/x\n", "no field\n"} {
		r := &record{control: []byte(control)}
		if err := r.identify(); err == nil || !strings.Contains(err.Error(), "control file") {
			t.Errorf("control %q: error %v", control, err)
		}
	}
}

// Whatever a package says of itself, what is written stays in the database.
func FuzzRecord(f *testing.F) {
	f.Add("Package: a\nArchitecture: amd64\nMulti-Arch: same\n", "/etc/a\nremove-on-upgrade /etc/b\n", "interest /usr/x\ninterest-noawait y\n", "./etc/a")
	f.Add("Package: ..\n", "//..\n", "interest ../../x\n", "../../../etc/passwd")
	f.Fuzz(func(t *testing.T, control, conffiles, triggers, name string) {
		r := &record{}
		for member, text := range map[string]string{"control": control, "conffiles": conffiles, "triggers": triggers, "md5sums": ""} {
			r.add(&tar.Header{Name: member, Typeflag: tar.TypeReg, Mode: 0o644}, []byte(text))
		}
		if r.identify() != nil {
			return
		}
		r.note(&tar.Header{Name: name, Typeflag: tar.TypeReg})
		top := t.TempDir()
		inside := filepath.Join(top, "a/b/c/d")
		if err := os.MkdirAll(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = writeDatabase(root, []*record{r}, time.Unix(0, 0)) // what is refused does not matter
		for _, dir := range []string{top, filepath.Join(top, "a"), filepath.Join(top, "a/b"), filepath.Join(top, "a/b/c")} {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Fatalf("%s holds %v, %v", dir, entries, err)
			}
		}
	})
}
