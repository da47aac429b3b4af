package diff_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/diff"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const mib = 1 << 20

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// node is the tree of a very small node.
var node = map[string]string{
	"etc/os-release":                         "ID=debian\nPRETTY_NAME=\"Debian 12\"\n",
	"etc/passwd":                             "root:x:0:0:root:/root:/bin/bash\n",
	"etc/sysctl.d/90-node.conf":              "vm.overcommit_memory = 1\n",
	"etc/modules-load.d/node.conf":           "overlay\n",
	"var/lib/dpkg/status":                    "Package: jq\nStatus: install ok installed\nVersion: 1.6-2.1\n\nPackage: curl\nStatus: install ok installed\nVersion: 7.88\n",
	"boot/grub/grub.cfg":                     "menuentry 'node' {\n linux /boot/vmlinuz-6.1 root=UUID=66666666-7777-8888-9999-aaaaaaaaaaaa quiet\n initrd /boot/initrd\n}\n",
	"usr/lib/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet\n",
	"usr/lib/systemd/system/getty.service":   "[Service]\n",
	"usr/bin/large":                          strings.Repeat("nodesmith ", 200_000),
	"usr/bin/other":                          strings.Repeat("other ", 30_000),
	"usr/share/doc/jq/copyright":             "free",
	"usr/share/doc/jq/examples/a":            strings.Repeat("a", 5000),
}

// disk makes a disk with an EFI system partition and the tree as root.
func disk(t testing.TB) string {
	t.Helper()
	testenv.Need(t, "mke2fs", "sgdisk", "mkfs.fat", "mcopy", "debugfs")
	tree, name := t.TempDir(), filepath.Join(t.TempDir(), "a.raw")
	for path, text := range node {
		full := filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "touch", "-h", "-d", "@1600000000", tree)
	run(t, "truncate", "-s", "96M", name)
	run(t, "sgdisk", "--clear", "--disk-guid=11111111-2222-3333-4444-555555555555", "--new=1:2048:+40M", "--typecode=1:ef00", "--change-name=1:esp",
		"--new=2:0:+48M", "--change-name=2:root", "--partition-guid=1:21111111-2222-3333-4444-555555555555", "--partition-guid=2:31111111-2222-3333-4444-555555555555", name)
	run(t, "mkfs.fat", "-F", "32", "-n", "ESP", "-i", "12345678", "--invariant", "--offset", "2048", name, "40960")
	loader := filepath.Join(t.TempDir(), "BOOTX64.EFI")
	if err := os.WriteFile(loader, []byte("MZ"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "mmd", "-i", name+"@@1M", "::/EFI", "::/EFI/BOOT")
	run(t, "mcopy", "-i", name+"@@1M", loader, "::/EFI/BOOT/BOOTX64.EFI")
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-U", "66666666-7777-8888-9999-aaaaaaaaaaaa", "-E",
		fmt.Sprintf("hash_seed=66666666-7777-8888-9999-aaaaaaaaaaaa,offset=%d", 41*mib), "-d", tree, name, "48M")
	return name
}

// changed returns a copy of a disk on whose root file system debugfs ran commands.
func changed(t testing.TB, disk string, commands ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "b.raw")
	run(t, "cp", "--sparse=always", disk, name)
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "debugfs", "-w", "-f", script, fmt.Sprintf("%s?offset=%d", name, 41*mib))
	return name
}

func local(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t testing.TB, name string) diff.Disk {
	t.Helper()
	file, err := known.OpenFile(name, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return diff.Disk{Name: filepath.Base(name), Source: file}
}

func compare(t testing.TB, a, b string) *diff.Report {
	t.Helper()
	r, err := diff.Disks(t.Context(), open(t, a), open(t, b), true)
	if err != nil {
		t.Fatal(err)
	}
	reporttest.Validate(t, diff.ReportKind, r)
	return r
}

func text(t testing.TB, r *diff.Report, o diff.TextOptions) string {
	t.Helper()
	o.Size = func(n int64) string { return fmt.Sprint(n) }
	var b bytes.Buffer
	if err := r.WriteText(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheSameDiskIsEqualInEveryFormat(t *testing.T) {
	a := disk(t)
	source := open(t, a)
	for _, name := range []string{"qcow2", "vmdk", "ova", "vhd"} {
		f, err := known.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "other"+f.Suffix)
		if _, err := (format.Converter{}).Convert(t.Context(), source, []format.Target{{Path: other, New: f.New}}); err != nil {
			t.Fatal(err)
		}
		if r := compare(t, a, other); !r.Equal || r.Blocks.Differing != 0 || len(r.Sections)+len(r.Files)+len(r.Notes) > 0 {
			t.Errorf("%s: %s", name, text(t, r, diff.TextOptions{}))
		}
	}
}

func TestWhatDiffersIsNamed(t *testing.T) {
	a := disk(t)
	for name, c := range map[string]struct {
		commands []string
		want     []string // lines of the text
		changed  int64    // S
	}{
		"a file was added": {
			[]string{"write " + local(t, strings.Repeat("x", 9000)) + " /etc/new"}, []string{"  + /etc/new (9000)"}, 12288,
		},
		"a directory was added": {
			[]string{"mkdir /srv", "mkdir /srv/sub", "write " + local(t, "x") + " /srv/sub/x"}, []string{"  + /srv/ (2 files, 1)"}, 4096,
		},
		"a file was removed":     {[]string{"rm /usr/bin/other"}, []string{"  - /usr/bin/other (180000)"}, 180224},
		"a file became shorter":  {[]string{"rm /usr/bin/other", "write " + local(t, "x") + " /usr/bin/other"}, []string{"  ~ /usr/bin/other: content (180000 -> 1)"}, 180224},
		"the mode":               {[]string{"sif /usr/bin/other mode 0104755"}, []string{"  ~ /usr/bin/other: mode 0644 -> 4755"}, 0},
		"the owner":              {[]string{"sif /usr/bin/other uid 70000", "sif /usr/bin/other gid 5"}, []string{"  ~ /usr/bin/other: owner 0:0 -> 70000:5"}, 0},
		"an extended attribute":  {[]string{"ea_set /usr/bin/other user.note yes"}, []string{"  ~ /usr/bin/other: +xattr user.note yes"}, 0},
		"a link":                 {[]string{"symlink /etc/localtime /usr/share/zoneinfo/UTC"}, []string{"  + /etc/localtime (link)"}, 0},
		"a hard link":            {[]string{"ln /usr/bin/large /usr/bin/zarge", "sif /usr/bin/large links_count 2"}, []string{"  ~ /usr/bin/large: links 1 -> 2", "  + /usr/bin/zarge (2000000)"}, 0},
		"a device":               {[]string{"cd /etc", "mknod whiteout c 0 0"}, []string{"  + /etc/whiteout (character device)"}, 0},
		"a time alone":           {[]string{"sif /usr/bin/other mtime @1500000000"}, []string{"files: 0 added, 0 removed, 0 changed, 1 with another time only"}, 0},
		"a sysctl":               {[]string{"rm /etc/sysctl.d/90-node.conf", "write " + local(t, "vm.overcommit_memory = 2\nkernel.panic = 10\n") + " /etc/sysctl.d/90-node.conf"}, []string{"sysctls: 1 added, 1 changed", "  + kernel.panic 10", "  ~ vm.overcommit_memory: 1 -> 2"}, 4096},
		"a package":              {[]string{"rm /var/lib/dpkg/status", "write " + local(t, "Package: jq\nStatus: install ok installed\nVersion: 1.7\n") + " /var/lib/dpkg/status"}, []string{"packages: 1 removed, 1 changed", "  - curl 7.88", "  ~ jq: 1.6-2.1 -> 1.7"}, 4096},
		"a masked unit":          {[]string{"mkdir /etc/systemd", "mkdir /etc/systemd/system", "symlink /etc/systemd/system/getty.service /dev/null"}, []string{"units: 1 changed", "  ~ getty.service: disabled -> masked"}, 0},
		"a unit that is enabled": {[]string{"mkdir /usr/lib/systemd/system/multi-user.target.wants", "symlink /usr/lib/systemd/system/multi-user.target.wants/kubelet.service ../kubelet.service"}, []string{"  ~ kubelet.service: disabled -> enabled"}, 0},
		"a kernel argument": {
			[]string{"rm /boot/grub/grub.cfg", "write " + local(t, strings.Replace(node["boot/grub/grub.cfg"], "quiet", "console=ttyS0", 1)) + " /boot/grub/grub.cfg"},
			[]string{"kernel arguments: 1 added, 1 removed", "  + console ttyS0", "  - quiet"}, 4096,
		},
		"an account": {[]string{"rm /etc/passwd", "write " + local(t, "root:x:0:0:root:/root:/bin/sh\n") + " /etc/passwd"}, []string{"  ~ root: x:0:0:root:/root:/bin/bash -> x:0:0:root:/root:/bin/sh"}, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			r := compare(t, a, changed(t, a, c.commands...))
			got := text(t, r, diff.TextOptions{})
			for _, line := range c.want {
				if !slices.Contains(strings.Split(got, "\n"), line) {
					t.Errorf("no line %q in\n%s", line, got)
				}
			}
			if r.Equal || r.Blocks.ChangedBytes != c.changed || r.Blocks.Bound != diff.Bound(c.changed) || len(r.Notes) > 0 {
				t.Errorf("S is %d, want %d; %+v", r.Blocks.ChangedBytes, c.changed, r)
			}
		})
	}
}

func TestFilesOnTheESPAreCompared(t *testing.T) {
	a := disk(t)
	b := changed(t, a)
	run(t, "mcopy", "-o", "-i", b+"@@1M", local(t, "MZ other"), "::/EFI/BOOT/BOOTX64.EFI")
	if got := text(t, compare(t, a, b), diff.TextOptions{}); !strings.Contains(got, "  ~ esp:/EFI/BOOT/BOOTX64.EFI: content (2 -> 8)\n") {
		t.Error(got)
	}
}

// Every page that differs is in exactly one class, and classes name files.
func TestDifferingBlocksAreExplained(t *testing.T) {
	a := disk(t)
	b := changed(t, a, "rm /usr/bin/large", "write "+local(t, strings.Repeat("smithnode ", 200_000))+" /usr/bin/large")
	r := compare(t, a, b)
	pages, classes := int64(0), map[string]diff.Class{}
	for _, c := range r.Blocks.Classes {
		pages += c.Pages
		classes[c.Name] = c
	}
	if pages != r.Blocks.DifferingPages {
		t.Errorf("%d pages have classes, %d differ", pages, r.Blocks.DifferingPages)
	}
	for _, name := range []string{"root: files below /usr/bin/", "root: inode tables", "root: superblocks and group descriptors"} {
		if classes[name].Blocks == 0 {
			t.Errorf("there is no class %q in %+v", name, r.Blocks.Classes)
		}
	}
	if paths := classes["root: files below /usr/bin/"].Paths; len(paths) != 1 || paths[0].Path != "/usr/bin/large" || paths[0].Pages < 488 {
		t.Errorf("paths: %+v", paths)
	}
	got := text(t, r, diff.TextOptions{Blocks: true})
	if !strings.Contains(got, "changed bytes of files (S): 2002944 (2002944)\n") || !strings.Contains(got, "of 29 (ceil(1.2 x S / 512 KiB) + 24)") {
		t.Error(got)
	}
}

func TestTheBoundIsThatOfTheFormula(t *testing.T) {
	for changed, want := range map[int64]int64{0: 24, 4096: 25, 436906: 25, 436907: 26, 512 << 10: 26, 5 << 20: 36} {
		if got := diff.Bound(changed); got != want {
			t.Errorf("Bound(%d) = %d, want %d", changed, got, want)
		}
	}
}

func TestDisksThatCannotBeReadAreComparedByTheirBlocks(t *testing.T) {
	a := disk(t)
	b := changed(t, a)
	file, err := os.OpenFile(b, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.WriteAt(make([]byte, mib), 0); err != nil {
		t.Fatal(err)
	}
	r := compare(t, a, b)
	if r.Equal || r.Blocks.Differing != 1 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "b.raw: there is no partition table") {
		t.Errorf("%+v", r)
	}
}

func TestAReportIsJSONThatSaysTheSame(t *testing.T) {
	a := disk(t)
	r := compare(t, a, changed(t, a, "rm /usr/share/doc/jq/copyright"))
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back diff.Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.APIVersion != "nodesmith.dev/diff/v1alpha1" || back.Equal || len(back.Files) == 0 || back.Blocks.Bound != 25 {
		t.Errorf("%s", data)
	}
	if got := text(t, &back, diff.TextOptions{}); got != text(t, r, diff.TextOptions{}) {
		t.Error(got)
	}
}

// short is a disk whose reads fail.
type short struct{ format.Source }

func (short) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAReadErrorIsAnError(t *testing.T) {
	a := open(t, disk(t))
	if _, err := diff.Disks(t.Context(), a, diff.Disk{Name: "b", Source: short{a}}, false); err == nil || !strings.Contains(err.Error(), "read b at") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diff.Disks(ctx, a, a, false); err == nil {
		t.Error("no error from a cancelled context")
	}
}
