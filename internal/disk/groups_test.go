package disk

import (
	"io/fs"
	"slices"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
)

// systemWithLists has two packages of the operating system, and one that the
// user added; /lib is a link, as on all distributions today.
func systemWithLists() []ext4.Entry {
	const info = "var/lib/dpkg/info/"
	var entries []ext4.Entry
	for _, dir := range []string{
		".", "etc", "etc/added", "usr", "usr/bin", "usr/lib", "usr/lib/tool", "usr/lib/tool/cache", "usr/lib/added", "usr/local", "usr/local/bin", "var", "var/lib", "var/lib/tool",
		"var/lib/dpkg", "var/lib/dpkg/info",
	} {
		entries = append(entries, ext4.Entry{Path: dir, Mode: fs.ModeDir | 0o755})
	}
	for name, content := range map[string]string{
		"usr/bin/tool": "", "usr/lib/tool/module": "", "usr/lib/tool/cache/module": "", "usr/lib/libc.so": "", "usr/bin/both": "", "usr/lib/tool/plugin": "",
		"usr/lib/added/cache": "", "usr/local/bin/agent": "", "usr/local/bin/containerd": "", "etc/tool.conf": "", "etc/added/conf": "", "var/lib/tool/state": "",
		info + "tool.list":        "/.\n/usr\n/usr/bin\n/usr/bin/tool\n/usr/bin/both\n/lib/tool/module\n/usr/lib\n/usr/lib/tool\n/etc/tool.conf\n/var/lib/tool\n",
		info + "tool.postinst":    "",
		info + "libc6:amd64.list": "/usr\n/usr/bin\n/usr/bin/both\n/usr/lib\n/lib/libc.so\n/nowhere/at/all\nnot a path\n",
		info + "added.list":       "/usr/lib\n/usr/lib/tool\n/usr/lib/tool/plugin\n/usr/lib/added\n/etc/added\n/etc/added/conf\n/usr/bin/tool\n/usr/local\n/usr/local/bin\n/usr/local/bin/agent\n",
	} {
		entries = append(entries, ext4.Entry{Path: name, Mode: 0o644, Content: text(content)})
	}
	return append(entries,
		ext4.Entry{Path: "lib", Mode: fs.ModeSymlink | 0o777, Target: "usr/lib"},
		ext4.Entry{Path: "loop", Mode: fs.ModeSymlink | 0o777, Target: "loop"})
}

func TestPackagesFilesAreGroupsAndWhatIsAddedChangesNoOther(t *testing.T) {
	c := tinyConfig(t)
	c.FileLists, c.Added = "/var/lib/dpkg/info/*.list", []string{"added", "added:amd64"}
	contents := c.contents()
	entries := systemWithLists()
	slices.Reverse(entries) // their order does not matter
	contents[len(contents)-1].entries = entries
	classify("/", entries)
	if err := c.group(contents); err != nil {
		t.Fatal(err)
	}
	byPath := map[string]ext4.Entry{}
	for _, e := range entries {
		byPath[e.Path] = e
	}
	for _, want := range []struct{ path, group, class string }{
		{"usr/bin/tool", "tool", "operating system"},
		{"usr/bin", "", "operating system"}, // both packages' directory
		{"usr/bin/both", "", "operating system"},
		{"usr/lib/tool", "tool", "operating system"}, // though the added package has a name in it
		{"usr/lib/tool/module", "tool", "operating system"},
		{"usr/lib/tool/cache/module", "tool", "operating system"}, // in no list, but in its directory
		{"usr/lib/libc.so", "libc6:amd64", "operating system"},
		{"var/lib/dpkg/info/tool.postinst", "/var/lib/dpkg/info", "operating system"},
		{"var/lib/tool", "", "operating system"},
		{"var/lib/tool/state", "", "operating system"},
		{"etc/tool.conf", "", "node configuration"},
		{"etc", "", "operating system"}, // all directories that are nobody's
		{"usr/lib/tool/plugin", "added", "customization"},
		{"usr/lib/added", "added", "customization"},
		{"usr/lib/added/cache", "added", "customization"},
		{"usr/local/bin", "", "container runtime"}, // though the added package has a name in it
		{"usr/local/bin/agent", "added", "customization"},
		{"usr/local/bin/containerd", "", "container runtime"},
		{"etc/added", "added", "customization"},
		{"etc/added/conf", "added", "customization"},
		{"var/lib/dpkg/info/added.list", "added", "customization"},
	} {
		got := byPath[want.path]
		if got.Group != want.group || classes[got.Class].Name != want.class {
			t.Errorf("%s: group %q of %s, want %q of %s", want.path, got.Group, classes[got.Class].Name, want.group, want.class)
		}
	}
}
