package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestAnInitramfsTakesWhatHasToDoWithItAndWhatThatDependsOn(t *testing.T) {
	root := t.TempDir()
	var status strings.Builder
	for _, p := range []struct{ name, state, fields, list, kind, text string }{
		{name: "linux-image", fields: "Depends: kmod, linux-base (>= 4.3~), initramfs-tools | linux-initramfs-tool\n", list: "/boot/vmlinuz-6.1\n"},
		{name: "dracut", fields: "Provides: linux-initramfs-tool\nDepends: cpio\n"},
		{name: "cpio"},
		{name: "kmod", fields: "Multi-Arch: same\nArchitecture: amd64\nPre-Depends: libkmod2\n"},
		{name: "libkmod2", fields: "Depends: libc6\n"},
		{name: "libc6", state: "install ok installed", fields: "Depends: unneeded\n"},
		{name: "linux-base", fields: "Depends: linux-image\n"}, // a circle
		{name: "microcode", list: "/.\n/etc\n/etc/modprobe.d\n/etc/modprobe.d/blacklist.conf\n"},
		{name: "theme", kind: "postinst", text: "#!/bin/sh\nupdate-initramfs -u\n"},
		{name: "waits", kind: "triggers", text: "activate-noawait update-initramfs\n"},
		{name: "unneeded"},
		{name: "directory", list: "/etc/modprobe.d\n/usr/share/initramfs-tools\n"},
		{name: "jq", kind: "postinst", text: "#!/bin/sh\nldconfig\n"},
	} {
		if p.state == "" {
			p.state = unpackedStatus
		}
		status.WriteString("Package: " + p.name + "\nStatus: " + p.state + "\nVersion: 1\n" + p.fields + "\n")
		info := p.name
		if strings.Contains(p.fields, "same") {
			info += ":amd64"
		}
		testenv.WriteFile(t, filepath.Join(root, infoDir, info+".list"), p.list)
		if p.kind != "" {
			testenv.WriteFile(t, filepath.Join(root, infoDir, info+"."+p.kind), p.text)
		}
	}
	testenv.WriteFile(t, filepath.Join(root, statusFile), status.String())
	got, err := ofInitramfs(root)
	want := strings.Fields("cpio dracut kmod libkmod2 linux-base linux-image microcode theme waits")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("before the initramfs: %q, %v\nwant %q", got, err, want)
	}
	if err := os.Remove(filepath.Join(root, infoDir, "jq.list")); err != nil {
		t.Fatal(err)
	}
	if _, err := ofInitramfs(root); err == nil {
		t.Error("a package without a list of its files is passed over")
	}
}
