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
)

// dpkg is the tree's own.
type dpkg struct {
	config   Config
	unpacked map[string]string // packages that need only be configured: name -> infoName
	later    *later            // calls of byteCompiler
}

// open returns the dpkg of the tree it runs in. compiled lists the calls of
// byteCompiler that are not to run again. The caller ends it with close.
func open(ctx context.Context, config Config, compiled [][]string) (*dpkg, error) {
	status, err := os.ReadFile("/" + statusFile)
	if err != nil {
		return nil, err
	}
	unpacked, err := unpackedIn(bytes.NewReader(status))
	if err != nil {
		return nil, fmt.Errorf("dpkg's status: %w", err)
	}
	later, err := runLater(ctx, byteCompiler, compiled)
	if err != nil {
		return nil, err
	}
	return &dpkg{config: config, unpacked: unpacked, later: later}, nil
}

// close waits for the calls that were handed over, unless what made them failed.
func (d *dpkg) close(failed error) error { return d.later.wait(failed) }

// compile has the Python modules of packages compiled before their scripts ask for it.
func (d *dpkg) compile() error {
	calls, err := plainCalls("/")
	if err != nil {
		return err
	}
	for _, args := range calls {
		d.later.call(args)
	}
	return nil
}

// unpack makes a group of packages such that they can be configured: it unpacks
// those that are not and runs what the others would have run first.
func (d *dpkg) unpack(ctx context.Context, group []Package) error {
	action := []string{"--unpack", "--force-depends"}
	for _, p := range group {
		file := filepath.Join(d.config.From, p.File)
		info, unpacked := d.unpacked[p.Name]
		if !unpacked {
			action = append(action, file)
			continue
		}
		if _, err := os.Stat(filepath.Join("/", infoDir, info+".preinst")); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := runPreinst(ctx, "/", file); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	if len(action) == 2 {
		return nil
	}
	return d.run(ctx, searchPath, action...)
}

// configurePending configures all that is not configured.
func (d *dpkg) configurePending(ctx context.Context) error {
	if err := d.configure(ctx, "--pending"); err != nil {
		return err
	}
	return audit(ctx)
}

// configure runs dpkg --configure with further arguments.
func (d *dpkg) configure(ctx context.Context, args ...string) error {
	return d.run(ctx, d.later.path(), append([]string{"--configure"}, args...)...)
}

func (d *dpkg) run(ctx context.Context, path string, action ...string) error {
	// unsafe-io: the layer is thrown away if anything fails. abort-after: what failed
	// first, such as for a full disk, is what the user shall read last.
	args := []string{"--abort-after=1", "--force-unsafe-io", "--force-confdef", "--force-confold"}
	for _, pattern := range d.config.Exclude {
		args = append(args, "--path-exclude="+pattern)
	}
	for _, pattern := range d.config.Include {
		args = append(args, "--path-include="+pattern)
	}
	// INITRD=No: the kernel's hook leaves the initramfs to makeInitramfs.
	return run(ctx, []string{"INITRD=No", "PATH=" + path}, "dpkg", append(args, action...)...)
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

// run runs a program of the tree as package scripts expect to be run.
func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(),
		"PATH="+searchPath, "LC_ALL=C.UTF-8", "HOME=/root",
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
