// Package install is what cmd/step-install does inside the build engine: let a
// tree's own dpkg install packages into it.
//
// What comes in are package files that the client verified, read from a mount, and
// the tree as the container's root; what goes out is that tree. It is a program of
// its own, so that a change of how packages are installed makes no other tree anew.
package install

import (
	"bytes"
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
	First  []Package `json:"first,omitempty"`
	Ground []Package `json:"ground,omitempty"`
	Rest   []Package `json:"rest"`
	// Exclude and Include are dpkg's path filters.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
	// Host lists globs to remove, Empty files to leave without content.
	Host  []string `json:"host,omitempty"`
	Empty []string `json:"empty,omitempty"`
	// Reset maps files to the content that they get if they are there.
	Reset map[string]string `json:"reset,omitempty"`
}

// Package is a package by its name and its file's, which is below From.
type Package struct {
	Name string `json:"name"`
	File string `json:"file"`
}

const kernels = "/boot/vmlinuz-*"

// Packages installs packages into the tree it runs in with that tree's own
// dpkg: those unpacked that Unpack left to it, then every package configured,
// triggers and the initramfs once at the end, no service started. What belongs to
// the build rather than to the image is removed before it returns.
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
	status, err := os.ReadFile("/" + adminDir + "/status")
	if err != nil {
		return err
	}
	unpacked, err := unpackedIn(bytes.NewReader(status))
	if err != nil {
		return fmt.Errorf("dpkg's status: %w", err)
	}
	dpkg := &dpkg{config: config, unpacked: unpacked}
	for _, group := range [][]Package{config.First, config.Ground} {
		// Their dependencies on each other are circular: the files are all there.
		if err := dpkg.unpack(ctx, group); err != nil {
			return err
		}
		if err := dpkg.configure(ctx, group); err != nil {
			return err
		}
	}
	// Unpacked before what they pre-depend on is configured; --configure
	// below holds them to every dependency.
	if err := dpkg.unpack(ctx, config.Rest); err != nil {
		return err
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

// prepareDpkg makes the files that dpkg and the first maintainer scripts expect
// beside the records of what is unpacked.
func prepareDpkg() error {
	return errors.Join(os.WriteFile("/"+adminDir+"/available", nil, 0o644), os.WriteFile("/etc/fstab", nil, 0o644))
}

type dpkg struct {
	config   Config
	unpacked map[string]bool // packages that need only be configured
}

// unpack unpacks those of a group that are not unpacked.
func (d *dpkg) unpack(ctx context.Context, group []Package) error {
	action := []string{"--unpack", "--force-depends"}
	for _, p := range group {
		if !d.unpacked[p.Name] {
			action = append(action, filepath.Join(d.config.From, p.File))
		}
	}
	if len(action) == 2 {
		return nil
	}
	return d.run(ctx, action...)
}

func (d *dpkg) configure(ctx context.Context, group []Package) error {
	if len(group) == 0 {
		return nil
	}
	action := []string{"--configure", "--force-depends"}
	for _, p := range group {
		action = append(action, p.Name)
	}
	return d.run(ctx, action...)
}

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
	// INITRD=No: the kernel's hook leaves the initramfs to initramfs() below.
	return run(ctx, []string{"INITRD=No"}, "dpkg", append(args, action...)...)
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
