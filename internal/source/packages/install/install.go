// Package install is what cmd/step-install does inside the build engine: let a
// tree's own dpkg install packages into it.
//
// What comes in are package files that the client verified, read from a mount, and
// the tree as the container's root; what goes out is that tree. It is a program of
// its own, so that a change of how packages are installed makes no other tree anew.
//
// A whole system takes four steps, of which the last two run side by side: Unpack,
// Begin, Finish and Initramfs. A further set on top of a system is one: Packages.
package install

import (
	"context"
	"errors"
	"os"
	"time"

	"nodesmith.dev/nodesmith/internal/deb/servicepolicy"
)

// Config is the input of Begin, Finish and Packages.
type Config struct {
	From string `json:"from,omitempty"` // directory of the package files
	// First and Ground are installed before the rest, in that order: the
	// tree holds their files already. Empty for a set on top of a whole tree.
	First  []Package `json:"first,omitempty"`
	Ground []Package `json:"ground,omitempty"`
	Rest   []Package `json:"rest,omitempty"`
	// Exclude and Include are dpkg's path filters.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
	// Host lists globs to remove, Empty files to leave without content, Keep what
	// Host matches and Begin leaves to Finish.
	Host  []string `json:"host,omitempty"`
	Empty []string `json:"empty,omitempty"`
	Keep  []string `json:"keep,omitempty"`
	// Reset maps files to the content that they get if they are there.
	Reset map[string]string `json:"reset,omitempty"`
}

// Package is a package by its name and its file's, which is below From.
type Package struct {
	Name string `json:"name"`
	File string `json:"file"`
}

// Begin makes a tree from Unpack one that an initramfs can be made in, with that
// tree's own dpkg: it unpacks what was left to it, configures the essential packages
// and those that have to do with the kernel. No service is started. Meanwhile the
// Python modules of all packages are compiled.
func Begin(ctx context.Context, config Config, _ time.Time) error {
	if err := skipSyncs(); err != nil {
		return err
	}
	// What dpkg and the first maintainer scripts expect beside the records.
	err := errors.Join(os.WriteFile("/"+adminDir+"/available", nil, 0o644), os.WriteFile("/etc/fstab", nil, 0o644), servicepolicy.Forbid("/"))
	if err != nil {
		return err
	}
	dpkg, err := open(ctx, config, nil)
	if err != nil {
		return err
	}
	if err := dpkg.close(dpkg.begin(ctx)); err != nil {
		return err
	}
	return clean(config.Host, config.Keep, config.Empty)
}

func (d *dpkg) begin(ctx context.Context) error {
	if err := d.compile(); err != nil {
		return err
	}
	for _, group := range [][]Package{d.config.First, d.config.Ground} {
		if len(group) == 0 {
			continue
		}
		// Their dependencies on each other are circular: the files are all there.
		if err := d.unpack(ctx, group); err != nil {
			return err
		}
		if err := d.configure(ctx, append([]string{"--force-depends"}, names(group)...)...); err != nil {
			return err
		}
	}
	if err := d.unpack(ctx, d.config.Rest); err != nil {
		return err
	}
	if err := d.compile(); err != nil { // those of packages that were left to dpkg
		return err
	}
	needed, err := ofInitramfs("/")
	if err != nil || len(needed) == 0 {
		return err
	}
	return d.configure(ctx, needed...)
}

// Finish configures everything else, triggers at the end. What belongs to the build
// rather than to the image is removed before it returns.
func Finish(ctx context.Context, config Config, _ time.Time) error {
	if err := skipSyncs(); err != nil {
		return err
	}
	compiled, err := plainCalls("/")
	if err != nil {
		return err
	}
	dpkg, err := open(ctx, config, compiled)
	if err != nil {
		return err
	}
	if err := dpkg.close(dpkg.configurePending(ctx)); err != nil {
		return err
	}
	if err := linkKernels(ctx, nil); err != nil {
		return err
	}
	return tidy(config)
}

// Packages installs a further set into the tree it runs in, with that tree's own
// dpkg, as Begin, Initramfs and Finish do; the initramfs of new kernels only.
func Packages(ctx context.Context, config Config, _ time.Time) error {
	before, err := kernelVersions()
	if err != nil {
		return err
	}
	if err := errors.Join(skipSyncs(), servicepolicy.Forbid("/")); err != nil {
		return err
	}
	dpkg, err := open(ctx, config, nil)
	if err != nil {
		return err
	}
	// Unpacked before what they pre-depend on is configured; configuring holds them
	// to every dependency.
	err = dpkg.unpack(ctx, config.Rest)
	if err == nil {
		err = dpkg.configurePending(ctx)
	}
	if err := dpkg.close(err); err != nil {
		return err
	}
	if err := makeInitramfs(ctx, before); err != nil {
		return err
	}
	if err := linkKernels(ctx, before); err != nil {
		return err
	}
	return tidy(config)
}

// tidy leaves the tree as an image is to have it.
func tidy(config Config) error {
	return errors.Join(servicepolicy.Allow("/"), clean(config.Host, nil, config.Empty), reset(config.Reset))
}

func names(packages []Package) []string {
	var all []string
	for _, p := range packages {
		all = append(all, p.Name)
	}
	return all
}
