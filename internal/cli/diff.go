package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/diff"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/progress/display"
)

// comparison is what the flags of diff say.
type comparison struct {
	from                          string
	blocks, asJSON, all, exitCode bool
}

func diffCommand(s streams) *cobra.Command {
	var o comparison
	c := &cobra.Command{
		Use: "diff A B", Short: "Say in what two images differ",
		Long: `Say in what two images differ: packages, programs, container images, kernel
arguments, sysctls, units, users, partitions, and every file with its content,
mode, owner, extended attributes, links and time. A and B are image files of any
formats that nodesmith reads, also ones that it did not make, or two manifests
(*` + manifest.Suffix + `). Nothing is mounted; no privilege is needed.

Equal means that the two disks are the same byte by byte, whatever the formats.
With --exit-code the exit code says it: 0 equal, ` + fmt.Sprint(fault.Different.ExitCode()) + ` different; other codes are errors.

--blocks shows how many blocks of 512 KiB a store, a registry or an upload has
to take anew to get from A to B, what lies in them, and how many may differ for
the bytes of files that changed.`,
		Example: "  nodesmith diff old/debian-12-qemu.qcow2 new/debian-12-qemu.qcow2\n  nodesmith diff --blocks old/debian-12-qemu.raw new/debian-12-qemu.raw",
		Args:    exactly("A", "B"),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.Context(), s, args[0], args[1]) },
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "the format of both files, if their content should not decide")
	f.BoolVar(&o.blocks, "blocks", false, "show what lies in the blocks of the disks that differ")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON document, a "+diff.ReportKind)
	f.BoolVar(&o.all, "all", false, "list every file, also those that differ in their times alone")
	f.BoolVar(&o.exitCode, "exit-code", false, fmt.Sprintf("exit with %d if they differ", fault.Different.ExitCode()))
	return c
}

func (o comparison) run(ctx context.Context, s streams, a, b string) error {
	report, err := o.compare(ctx, a, b)
	if err != nil {
		return err
	}
	if o.asJSON {
		err = printJSON(s.out, report)
	} else {
		err = report.WriteText(s.out, diff.TextOptions{All: o.all, Blocks: o.blocks, Size: display.Bytes})
	}
	if o.exitCode && !report.Equal {
		err = errors.Join(err, fault.New(fault.Different, "", "%s and %s differ", a, b))
	}
	return err
}

func (o comparison) compare(ctx context.Context, a, b string) (_ *diff.Report, err error) {
	isManifest := func(name string) bool { return strings.HasSuffix(name, manifest.Suffix) }
	if isManifest(a) != isManifest(b) {
		return nil, fault.New(fault.Usage, "compare two images, or two manifests", "one of %s and %s is a manifest", a, b)
	}
	if isManifest(a) {
		if o.blocks {
			return nil, fault.New(fault.Usage, "compare two images", "manifests have no blocks")
		}
		left, err := manifest.Read(a)
		if err != nil {
			return nil, fault.New(fault.Usage, "", "%w", err)
		}
		right, err := manifest.Read(b)
		if err != nil {
			return nil, fault.New(fault.Usage, "", "%w", err)
		}
		return diff.Manifests(a, b, left, right), nil
	}
	left, err := openDisk(ctx, a, o.from)
	if err != nil {
		return nil, err
	}
	defer closing(&err, left)
	right, err := openDisk(ctx, b, o.from)
	if err != nil {
		return nil, err
	}
	defer closing(&err, right)
	report, err := diff.Disks(ctx, diff.Disk{Name: a, Source: left}, diff.Disk{Name: b, Source: right}, o.blocks)
	return report, readFault(err)
}
