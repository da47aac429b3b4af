// Package install is what cmd/step-install does inside the build engine: let a
// tree's own dpkg install packages into it.
//
// What comes in are package files that the client verified, read from a mount, and
// the tree as the container's root; what goes out is that tree. It is a program of
// its own, so that a change of how packages are installed makes no other tree anew.
package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/deb/servicepolicy"
)

// Config is the input of Packages.
type Config struct {
	From string `json:"from"` // directory of the package files
	// First and Ground are installed before the rest, in that order: the
	// tree holds their files already. Empty for a set on top of a whole tree.
	First  []string `json:"first,omitempty"`
	Ground []string `json:"ground,omitempty"`
	Rest   []string `json:"rest"`
	// Exclude and Include are dpkg's path filters.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
	// Host lists globs to remove, Empty files to leave without content.
	Host  []string `json:"host,omitempty"`
	Empty []string `json:"empty,omitempty"`
	// Reset maps files to the content that they get if they are there.
	Reset map[string]string `json:"reset,omitempty"`
}

const kernels = "/boot/vmlinuz-*"

// Packages installs packages into the tree it runs in with that tree's own
// dpkg: all files first, then every package configured, triggers and the
// initramfs once at the end, no service started. What belongs to the build
// rather than to the image is removed before it returns.
func Packages(ctx context.Context, config Config, _ time.Time) error {
	before, err := filepath.Glob(kernels)
	if err != nil {
		return err
	}
	if err := skipSyncs(); err != nil {
		return err
	}
	if len(config.Ground) > 0 {
		if err := prepareDpkg(); err != nil {
			return err
		}
	}
	if err := servicepolicy.Forbid("/"); err != nil {
		return err
	}
	dpkg := &dpkg{config: config}
	for _, group := range [][]string{config.First, config.Ground} {
		if len(group) > 0 {
			// Their dependencies on each other are circular: the files are all there.
			if err := dpkg.run(ctx, append([]string{"--install", "--force-depends"}, group...)...); err != nil {
				return err
			}
		}
	}
	if len(config.Rest) > 0 {
		// Unpacked before what they pre-depend on is configured; --configure
		// below holds them to every dependency.
		if err := dpkg.run(ctx, append([]string{"--unpack", "--force-depends"}, config.Rest...)...); err != nil {
			return err
		}
	}
	if err := dpkg.run(ctx, "--configure", "--pending"); err != nil {
		return err
	}
	if err := audit(ctx); err != nil {
		return err
	}
	if err := initramfs(ctx, before); err != nil {
		return err
	}
	return errors.Join(clean(append([]string{servicepolicy.Path}, config.Host...), config.Empty), reset(config.Reset))
}

// prepareDpkg makes the files that dpkg and the first maintainer scripts expect.
func prepareDpkg() error {
	if err := os.MkdirAll("/var/lib/dpkg/info", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"/var/lib/dpkg/status", "/var/lib/dpkg/available"} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile("/etc/fstab", nil, 0o644)
}

type dpkg struct{ config Config }

func (d *dpkg) run(ctx context.Context, action ...string) error {
	// unsafe-io: the layer is thrown away if anything fails. abort-after: what failed
	// first, such as for a full disk, is what the user shall read last.
	args := []string{"--abort-after=1", "--force-unsafe-io", "--force-confdef", "--force-confold"}
	for _, pattern := range d.config.Exclude {
		args = append(args, "--path-exclude="+pattern)
	}
	for _, pattern := range d.config.Include {
		args = append(args, "--path-include="+pattern)
	}
	for _, a := range action {
		if strings.HasSuffix(a, ".deb") {
			a = filepath.Join(d.config.From, a)
		}
		args = append(args, a)
	}
	// INITRD=No: the kernel's hook leaves the initramfs to initramfs() below.
	return run(ctx, []string{"INITRD=No"}, "dpkg", args...)
}

// run runs a program of the tree as package scripts expect to be run.
func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(),
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
	)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(firstFew(args), " "), err)
	}
	return nil
}

func firstFew(args []string) []string {
	if len(args) > 6 {
		return append(append([]string{}, args[:6]...), "...")
	}
	return args
}

// audit fails unless dpkg finds every package fully installed.
func audit(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "dpkg", "--audit").CombinedOutput()
	if err != nil {
		return fmt.Errorf("dpkg --audit: %w\n%s", err, out)
	}
	if len(out) > 0 {
		return fmt.Errorf("dpkg --audit: packages are not fully installed:\n%s", out)
	}
	return nil
}

// initramfs makes the initramfs of every kernel that was not there before.
func initramfs(ctx context.Context, before []string) error {
	after, err := filepath.Glob(kernels)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, kernel := range before {
		known[kernel] = true
	}
	for _, kernel := range after {
		if known[kernel] {
			continue
		}
		version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
		if err := run(ctx, nil, "update-initramfs", "-c", "-k", version); err != nil {
			return err
		}
		// The links /vmlinuz and /initrd.img, which the boot loader follows.
		if err := run(ctx, nil, "linux-update-symlinks", "install", version, kernel); err != nil {
			return err
		}
	}
	return nil
}

// reset gives files the content that contents maps them to; those that are not
// there stay away.
func reset(contents map[string]string) error {
	for name, content := range contents {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = file.WriteString(content)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// clean removes what the build left in the tree: what globs match, and the
// content of the files in empty.
func clean(globs, empty []string) error {
	for _, pattern := range globs {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, match := range matches {
			if err := os.RemoveAll(match); err != nil {
				return err
			}
		}
	}
	for _, name := range empty {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}
