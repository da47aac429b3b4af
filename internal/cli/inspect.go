package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/format/inspect"
	"nodesmith.dev/nodesmith/internal/report"
)

func inspectCommand(s streams) *cobra.Command {
	var from string
	var asJSON, noDigest bool
	c := &cobra.Command{
		Use: "inspect IMAGE", Short: "Say what is in an image",
		Long: `Say what is in a disk image of any format that nodesmith reads, also one that it
did not make: sizes, partitions, file systems, an OVA's properties, the digest.

Of an image in the store: its disks and their digests, how far each is proven, the
documents that belong to it, and what of it other images have, too; with
/INFRASTRUCTURE of that disk alone.
` + imageArgument,
		Example: "  nodesmith inspect out/debian-12.ova\n  nodesmith inspect debian-12",
		Args:    oneArgument("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if stored, err := inspectStored(c.Context(), s, args[0], asJSON); stored || err != nil {
				return err
			}
			if err := readable(args[0], from); err != nil {
				return err
			}
			found, err := inspect.File(c.Context(), args[0], from, !noDigest)
			if err != nil {
				return readFault(err)
			}
			if asJSON {
				return printJSON(s.out, found)
			}
			return printInspection(s.out, found)
		},
	}
	c.Flags().StringVar(&from, "from", "", "FILE's format, if its content should not decide")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document: an "+report.ImageKind+" of an image in the store, an "+inspect.ReportKind+" of a file")
	c.Flags().BoolVar(&noDigest, "no-digest", false, "leave out the digest, which reads the whole file")
	return c
}

// inspectStored prints what the store knows of an image; false if the argument is
// no reference, or a file.
func inspectStored(ctx context.Context, s streams, argument string, asJSON bool) (bool, error) {
	r, infrastructure, ok := storedReference(argument)
	if _, missing := os.Stat(argument); !ok || missing == nil {
		return false, nil // a file, or what opening it explains
	}
	images, image, err := findBesideFiles(ctx, argument, r)
	if err != nil {
		return true, err
	}
	d, err := describe(ctx, images, image, infrastructure)
	if err != nil {
		return true, err
	}
	if asJSON {
		return true, printJSON(s.out, d)
	}
	return true, printDescription(s.out, d)
}

func printInspection(w io.Writer, r inspect.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("file", r.File)
	line("format", r.Format)
	line("virtual size", bytesText(r.VirtualSize))
	line("file size", bytesText(r.FileSize))
	line("stored size", bytesText(r.StoredSize))
	line("data", bytesText(r.DataSize))
	line("sha256", r.SHA256)
	line("virtual machine", r.VirtualMachine)
	line("files", strings.Join(r.Files, " "))
	line("partitions", r.PartitionTable)
	line("file system", r.FileSystem)
	for _, note := range r.Notes {
		line("note", note)
	}
	if r.Product != nil {
		line("product", strings.TrimSpace(r.Product.Name+" "+r.Product.Version))
		for _, p := range r.Product.Properties {
			line("property "+p.Key, p.Value)
		}
	}
	if len(r.Partitions) > 0 {
		fmt.Fprintln(t, "\nNUMBER\tSTART\tSIZE\tTYPE\tNAME\tFILE SYSTEM\tLABEL")
		for _, p := range r.Partitions {
			fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%s\t%s\n", p.Number, p.Start, bytesText(p.Length), p.Type, p.Name, p.FileSystem, p.Label)
		}
	}
	return t.Flush()
}

// bytesText is a size for people: in MiB or GiB, and in bytes.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB (%d)", float64(n)/(1<<30), n)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB (%d)", float64(n)/(1<<20), n)
	}
	return fmt.Sprint(n)
}
