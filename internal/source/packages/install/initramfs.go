package install

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/deb"
)

// kernelPrefix is what the names of kernels begin with.
const kernelPrefix = "/boot/vmlinuz-"

// kernelVersions returns the versions of the tree's kernels.
func kernelVersions() ([]string, error) {
	kernels, err := filepath.Glob(kernelPrefix + "*")
	if err != nil {
		return nil, err
	}
	for i, kernel := range kernels {
		kernels[i] = strings.TrimPrefix(kernel, kernelPrefix)
	}
	return kernels, nil
}

// newKernels calls do for each version that is not among those before.
func newKernels(before []string, do func(version string) error) error {
	versions, err := kernelVersions()
	if err != nil {
		return err
	}
	for _, version := range versions {
		if slices.Contains(before, version) {
			continue
		}
		if err := do(version); err != nil {
			return err
		}
	}
	return nil
}

// makeInitramfs makes the initramfs of every kernel that was not there before.
func makeInitramfs(ctx context.Context, before []string) error {
	return newKernels(before, func(version string) error {
		return run(ctx, nil, "update-initramfs", "-c", "-k", version)
	})
}

// linkKernels makes the links /vmlinuz and /initrd.img, which the boot loader follows.
func linkKernels(ctx context.Context, before []string) error {
	return newKernels(before, func(version string) error {
		return run(ctx, nil, "linux-update-symlinks", "install", version, kernelPrefix+version)
	})
}

// InitramfsConfig is the input of Initramfs.
type InitramfsConfig struct {
	Out string `json:"out"` // root of a tree to go on top of the one it runs in
}

// Initramfs makes the initramfs of every kernel of the tree it runs in, which Begin
// has left, and writes what belongs on top of it: a tree that Finish changes
// meanwhile is none to read.
func Initramfs(ctx context.Context, config InitramfsConfig, _ time.Time) error {
	if err := skipSyncs(); err != nil {
		return err
	}
	if err := makeInitramfs(ctx, nil); err != nil {
		return err
	}
	made, err := filepath.Glob("/boot/initrd.img-*")
	if err != nil {
		return err
	}
	// What update-initramfs notes of them, where its version does.
	notes, err := filepath.Glob("/var/lib/initramfs-tools/*")
	if err != nil {
		return err
	}
	for _, name := range append(made, notes...) {
		if err := copyFile(name, filepath.Join(config.Out, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file with its mode, and makes the directories above it.
func copyFile(from, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// initramfsPaths begin the names of files that say that a package has to do with the
// initramfs: hooks and scripts (initramfs-tools(7)), modules and what is said of
// them, and what is run for a new kernel.
var initramfsPaths = []string{
	"/usr/share/initramfs-tools/", "/etc/initramfs-tools/", "/etc/modprobe.d/", "/lib/modprobe.d/", "/usr/lib/modprobe.d/",
	"/lib/modules/", "/usr/lib/modules/", "/etc/kernel/", "/boot/vmlinuz-",
}

// ofInitramfs returns the packages below root that are to be configured before an
// initramfs is made: those that have to do with it, or ask for a new one, and all
// that they depend on.
func ofInitramfs(root string) ([]string, error) {
	status, err := os.ReadFile(filepath.Join(root, statusFile))
	if err != nil {
		return nil, err
	}
	depends, providers := map[string][]deb.Alternatives{}, map[string][]string{}
	var queue []string
	err = deb.Stanzas(bytes.NewReader(status), func(stanza deb.Stanza) (bool, error) {
		if stanza["Status"] != unpackedStatus {
			return true, nil
		}
		name := stanza["Package"]
		depends[name] = deb.ParseDepends(stanza["Pre-Depends"] + "," + stanza["Depends"])
		for _, provided := range deb.ParseDepends(stanza["Provides"]) {
			providers[provided[0]] = append(providers[provided[0]], name)
		}
		concerned, err := concernsInitramfs(filepath.Join(root, infoDir), infoName(stanza))
		if concerned {
			queue = append(queue, name)
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if _, unpacked := depends[name]; !unpacked || needed[name] {
			continue
		}
		needed[name] = true
		for _, alternatives := range depends[name] {
			for _, one := range alternatives {
				queue = append(append(queue, one), providers[one]...)
			}
		}
	}
	return slices.Sorted(maps.Keys(needed)), nil
}

// concernsInitramfs reads dpkg's files on a package.
func concernsInitramfs(dir, name string) (bool, error) {
	list, err := os.ReadFile(filepath.Join(dir, name+".list"))
	if err != nil {
		return false, err
	}
	for file := range strings.Lines(string(list)) {
		if slices.ContainsFunc(initramfsPaths, func(prefix string) bool { return strings.HasPrefix(file, prefix) }) {
			return true, nil
		}
	}
	for _, kind := range []string{".triggers", ".postinst"} {
		text, err := os.ReadFile(filepath.Join(dir, name+kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if bytes.Contains(text, []byte("update-initramfs")) {
			return true, nil
		}
	}
	return false, nil
}
