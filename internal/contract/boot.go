package contract

import (
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs"
)

// bootChecks look at the way from the firmware to the kernel's command line.
var bootChecks = []Check{
	{
		ID: "boot.signed-loaders", Title: "The boot loaders on the EFI system partition are signed", Severity: Required,
		Firmware: uefi, Families: []Family{Debian, RedHat},
		Why: "With Secure Boot on (vSphere's default for new machines, Azure's TrustedLaunch) the firmware starts shim only when it is signed, and shim starts GRUB only when it is.",
		How: "The fallback loader and the GRUB beside it carry an Authenticode signature whose digest is that of the file.",
		run: checkLoaders,
	},
	{
		ID: "boot.kernel", Title: "The boot menu's kernel and initramfs exist", Severity: Required,
		Why: "A menu entry for files that are not there leaves the machine in the boot loader's shell.",
		How: "The first entry of grub.cfg, or of /boot/loader/entries, names a kernel and an initramfs that are files in the image and not empty.",
		run: func(n *node, r *result) {
			entries, err := n.entries()
			if err != nil {
				r.fail("%v", err)
				return
			}
			e := entries[0]
			for _, f := range []struct{ what, name string }{{"kernel", e.kernel}, {"initramfs", e.initrd}} {
				found := n.bootFile(f.name)
				info, err := n.tree.Stat(found)
				if found == "" || err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
					r.fail("the first entry of %s has the %s %q, which is no file in the image", e.source, f.what, f.name)
				}
			}
			r.note("%s", n.bootFile(e.kernel))
		},
	},
	{
		ID: "boot.kernel-signed", Title: "The kernel is signed", Severity: Required,
		Firmware: uefi, Families: []Family{Debian, RedHat}, Architectures: amd64Only,
		Why: "A signed GRUB refuses to start an unsigned kernel under Secure Boot.",
		How: "The kernel of the first menu entry carries an Authenticode signature whose digest is that of the file.",
		run: func(n *node, r *result) {
			entries, err := n.entries()
			if err != nil {
				r.fail("%v", err)
				return
			}
			checkSigned(n.tree, n.bootFile(entries[0].kernel), r)
		},
	},
	{
		ID: "boot.root-argument", Title: "The kernel is told a root file system that exists", Severity: Required,
		Why: "root= with a device name or with the identifier of another disk stops in the initramfs on the first machine with other hardware.",
		How: "root= of the first menu entry is the UUID, label or partition identifier of the root file system.",
		run: checkRootArgument,
	},
	{
		ID: "boot.console", Title: "The kernel's messages go to the serial console", Severity: Required,
		Infrastructures: []string{"qemu", "aws", "azure", "openstack", "kubevirt", "proxmox", "nutanix", "gcp"}, Architectures: amd64Only,
		Why: "The serial console's log is often all that a cloud shows of a machine that does not come up.",
		How: "The first menu entry's command line has console=ttyS0.",
		run: func(n *node, r *result) {
			entries, err := n.entries()
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, a := range entries[0].arguments {
				if a == "console=ttyS0" || strings.HasPrefix(a, "console=ttyS0,") {
					return
				}
			}
			r.fail("there is no console=ttyS0 on %q", strings.Join(entries[0].arguments, " "))
		},
	},
	{
		ID: "boot.no-cgroup-v1", Title: "The kernel's command line does not ask for cgroup v1", Severity: Required, Kubernetes: ">=v1.35",
		Why: "From Kubernetes v1.35 on the kubelet refuses to start on cgroup v1 unless its configuration says otherwise.",
		How: "The first menu entry has neither systemd.unified_cgroup_hierarchy=0 nor systemd.legacy_systemd_cgroup_controller.",
		run: func(n *node, r *result) {
			entries, err := n.entries()
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, a := range entries[0].arguments {
				if key, value, _ := strings.Cut(a, "="); key == "systemd.unified_cgroup_hierarchy" && slices.Contains([]string{"0", "false", "no", "off"}, value) ||
					key == "systemd.legacy_systemd_cgroup_controller" {
					r.fail("the command line has %s", a)
				}
			}
		},
	},
}

// bootEntry is one entry of a boot menu.
type bootEntry struct {
	source         string // the file it stands in
	kernel, initrd string
	arguments      []string
}

// grubWord matches a word of GRUB's configuration, which quotes like a shell.
var grubWord = regexp.MustCompile(`(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+`)

func grubWords(line string) []string {
	words := grubWord.FindAllString(line, -1)
	for i, w := range words {
		words[i] = strings.NewReplacer(`'`, "", `"`, "", `\`, "").Replace(w)
	}
	return words
}

// readBootEntries reads the boot menu: grub.cfg, and the entries of the Boot
// Loader Specification that it may refer to.
func (n *node) readBootEntries() ([]bootEntry, error) {
	var out []bootEntry
	for _, source := range slices.Concat([]string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"}, n.tree.Glob("/boot/loader/entries/*.conf")) {
		var e *bootEntry
		for _, line := range configLines(n.text(source)) {
			words := grubWords(line)
			if len(words) < 2 {
				continue
			}
			switch words[0] {
			case "linux", "linuxefi", "linux16":
				out = append(out, bootEntry{source: source, kernel: words[1], arguments: words[2:]})
				e = &out[len(out)-1]
			case "initrd", "initrdefi", "initrd16":
				if e != nil {
					e.initrd = words[1]
				}
			case "options":
				if e != nil {
					e.arguments = words[1:]
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there is no boot menu: neither grub.cfg nor /boot/loader/entries has an entry with a kernel")
	}
	return out, nil
}

// bootFile finds a file of the boot menu, whose paths count from the file
// system that holds it: the root, or /boot when that is one of its own.
func (n *node) bootFile(name string) string {
	for _, p := range []string{name, path.Join("/boot", name)} {
		if n.tree.Exists(p) && name != "" {
			if resolved, err := n.tree.Resolve(p); err == nil {
				return resolved
			}
		}
	}
	return ""
}

func checkLoaders(n *node, r *result) {
	if n.image.ESP == nil {
		return // disk.esp says so
	}
	fallback := n.fallbackLoader()
	dir := path.Dir(fallback)
	entries, err := n.image.ESP.ReadDir(dir)
	if err != nil {
		return // disk.esp says so
	}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if name == strings.ToLower(path.Base(fallback)) || strings.HasPrefix(name, "grub") && strings.HasSuffix(name, ".efi") {
			checkSigned(n.image.ESP, path.Join(dir, e.Name()), r)
		}
	}
}

func checkSigned(tree *imagefs.Tree, name string, r *result) {
	content, err := tree.Content(name)
	if err != nil {
		r.fail("%v", err)
		return
	}
	program, err := readPE(io.NewSectionReader(content, 0, content.Size()))
	if err == nil {
		err = program.checkSignature()
	}
	if err != nil {
		r.fail("%s: %v", name, err)
	}
}

func checkRootArgument(n *node, r *result) {
	entries, err := n.entries()
	if err != nil {
		r.fail("%v", err)
		return
	}
	root := ""
	for _, a := range entries[0].arguments {
		if v, ok := strings.CutPrefix(a, "root="); ok {
			root = v
		}
	}
	switch {
	case root == "":
		r.fail("the command line has no root=")
	case !strings.Contains(root, "="):
		r.fail("root=%s is a name that changes between machines", root)
	case !n.image.IsRoot(root):
		r.fail("root=%s is not the root file system of this disk", root)
	}
}
