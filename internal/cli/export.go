package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/store"
)

func exportCommand(s streams) *cobra.Command {
	var infrastructures, formats []string
	var output string
	var signing signingFlags
	c := &cobra.Command{
		Use: "export IMAGE -o DIR", Short: "Make image files of an image in the store",
		Long: `Make image files of an image in the store: for each infrastructure those that its
NodeImage asks for, with the settings that it was built with, or those of --to. The
files are copies: nothing that happens to them reaches the store.`,
		Example: "  nodesmith export debian-12 -o out\n  nodesmith export debian-12:stable --infrastructure vsphere --to ova -o out",
		Args:    oneArgument("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if output == "" {
				return fault.New(fault.Usage, "give the folder with -o DIR", "no folder for the files")
			}
			for _, f := range formats {
				if _, err := known.Named(f); err != nil {
					return fault.New(fault.Usage, "", "--to: %w", err)
				}
			}
			settings, err := host.Read()
			if err != nil {
				return err
			}
			signer, err := signing.or(settings.OVASigning).signer()
			if err != nil {
				return err
			}
			disks, err := disksOf(c, args[0], infrastructures)
			if err != nil {
				return err
			}
			if err := makeFolder(output); err != nil {
				return err
			}
			blocks := blockcache.Open(host.BlocksDir(settings.CacheDir), int64(settings.Bounds.Blocks))
			defer blocks.Close()
			return export(c, s, disks, pipeline.ExportOptions{Dir: output, Formats: formats, OVASigner: signer, Blocks: blocks})
		},
	}
	c.Flags().StringSliceVar(&infrastructures, "infrastructure", nil, "for which (default: all that the image has)")
	c.Flags().StringSliceVar(&formats, "to", nil, "formats to make: `"+strings.Join(known.Names(), "|")+"` (default: what the NodeImage asks for)")
	c.Flags().StringVarP(&output, "output", "o", "", "the `DIR` that receives the files")
	signing.register(c)
	return c
}

// disksOf returns the disks of an image in the store, for those infrastructures or
// for all.
func disksOf(c *cobra.Command, reference string, infrastructures []string) ([]*store.Disk, error) {
	images, _, image, err := findStored(c.Context(), reference)
	if err != nil {
		return nil, err
	}
	if len(infrastructures) == 0 {
		return images.Disks(c.Context(), image)
	}
	var disks []*store.Disk
	for _, name := range infrastructures {
		disk, err := images.Disk(c.Context(), image, name)
		if err != nil {
			return nil, err
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

func export(c *cobra.Command, s streams, disks []*store.Disk, options pipeline.ExportOptions) error {
	for _, disk := range disks {
		artifacts, err := pipeline.Export(c.Context(), disk, options)
		if err != nil {
			return readFault(err)
		}
		for _, a := range artifacts {
			fmt.Fprintf(s.err, "%-12s %-6s %s disk, %s stored\n", a.Infrastructure, a.Format, display.Bytes(a.SizeBytes), display.Bytes(a.StoredBytes))
			if _, err := fmt.Fprintln(s.out, a.Path); err != nil {
				return err
			}
		}
	}
	return nil
}
