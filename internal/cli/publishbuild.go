package cli

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
)

// publishFlags are those with which build publishes what it built.
type publishFlags struct{ wanted, unverified bool }

func (f *publishFlags) register(c *cobra.Command) {
	c.Flags().BoolVar(&f.wanted, "publish", false, "publish the images to where spec.publish says")
	c.Flags().BoolVar(&f.unverified, "yes-unverified", false, "publish them although nothing was proven of them yet")
}

// check says before the build what would keep its images from being published.
func (f *publishFlags) check(spec *spec) error {
	if !f.wanted {
		return nil
	}
	if !f.unverified {
		return fault.New(fault.Usage, "say --yes-unverified; or build, verify, and then nodesmith publish",
			"--publish: an image that was just built was not proven to %s", wantedLevel)
	}
	there := sections(spec.image.Spec.Publish)
	if len(there) == 0 {
		return fault.New(fault.BadSpec, "nodesmith explain spec.publish", "--publish: the NodeImage has no spec.publish")
	}
	for _, infrastructure := range there {
		if !slices.Contains(spec.image.Spec.Infrastructures, infrastructure) {
			return fault.New(fault.BadSpec, "", "--publish: spec.publish.%s needs %s in spec.infrastructures", infrastructure, infrastructure)
		}
	}
	return nil
}

// run publishes what was built into a folder.
func (f *publishFlags) run(ctx context.Context, s streams, spec *spec, flags specFlags, output string, progress progressFlag) error {
	if !f.wanted {
		return nil
	}
	o := publishing{specFlags: flags, unverified: f.unverified, progress: progress}
	if err := o.choose(spec.image.Spec.Publish); err != nil {
		return err
	}
	return o.publishTo(ctx, s, filepath.Join(output, spec.image.Metadata.Name), spec.image.Spec.Publish, spec.context())
}
