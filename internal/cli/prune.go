package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/housekeeping"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/rootless"
)

// pruneVersion is that of the document that prune --json prints.
const pruneVersion = "nodesmith.dev/prune/v1alpha1"

// pruneDocument says what was kept, and what went.
type pruneDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// DryRun says that nothing went: FreedBytes and Images are what would.
	DryRun bool        `json:"dryRun"`
	Kinds  []pruneKind `json:"kinds"`
	// Images are those that went by --keep.
	Images []imageEntry `json:"images"`
}

type pruneKind struct {
	Kind        string `json:"kind"`
	Path        string `json:"path"`
	BeforeBytes int64  `json:"beforeBytes"`
	FreedBytes  int64  `json:"freedBytes"`
	AfterBytes  int64  `json:"afterBytes"`
	// BoundBytes is missing where there is no bound.
	BoundBytes *int64 `json:"boundBytes,omitempty"`
	Policy     string `json:"policy"`
	Note       string `json:"note,omitempty"`
}

// pruneFlags say what is kept.
type pruneFlags struct {
	keep         int
	bounds       []string
	list, dryRun bool
	asJSON       bool
}

func pruneCommand(s streams) *cobra.Command {
	var f pruneFlags
	c := &cobra.Command{
		Use: "prune", Short: "Show what nodesmith keeps on this machine, and bring it within its bounds", Args: noArguments,
		Long: `Show what nodesmith keeps on this machine, and bring it within its bounds.

Of the caches goes what was not used for longest, until each is within its bound:
those of the configuration file (docs/housekeeping.md), or of --bound. Of the store
goes what no image has; images go by "nodesmith rm", or by --keep N, which keeps of
each name the N that were stored last, and every image with a tag that somebody gave
it. What a build uses that runs now stays. What killed builds left goes.

The end of a build does the same for the caches, at most once an hour.`,
		Example: `  nodesmith prune --list
  nodesmith prune --keep 5 --dry-run
  nodesmith prune --bound engine=20GiB --bound blocks=0`,
		PreRunE: func(*cobra.Command, []string) error {
			settings, err := host.Read()
			if err != nil || !rootless.Needed() {
				return err
			}
			if _, err := os.Stat(housekeeping.EngineDir(settings.CacheDir)); err != nil {
				return nil //nolint:nilerr // there is no engine to ask
			}
			return rootless.Enter(rootlessDir(settings))
		},
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.options(c, s)
			if err != nil {
				return err
			}
			r, err := housekeeping.Run(c.Context(), o)
			if err != nil {
				return err
			}
			switch {
			case f.asJSON:
				return printJSON(s.out, pruned(r, o.Look))
			case f.list:
				return printKept(s.out, r)
			}
			return printPruned(s.out, r, o.Look)
		},
	}
	c.Flags().IntVar(&f.keep, "keep", 0, "of each name, keep the `N` images that were stored last and those that somebody tagged (default: all)")
	c.Flags().StringArrayVar(&f.bounds, "bound", nil, "for this time, keep at most `KIND=SIZE` (repeatable; 0 for nothing): "+strings.Join(host.BoundNames, ", "))
	c.Flags().BoolVar(&f.list, "list", false, "remove nothing: list what is kept, where, and by which rule")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "remove nothing: say what would go")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON document, a PruneReport")
	return c
}

func (f pruneFlags) options(c *cobra.Command, s streams) (o housekeeping.Options, err error) {
	if c.Flags().Changed("keep") && f.keep < 1 {
		return o, fault.New(fault.Usage, "nodesmith rm removes single images", "--keep %d: of each name at least one image has to stay", f.keep)
	}
	settings, err := host.Read()
	if err != nil {
		return o, err
	}
	for _, text := range f.bounds {
		name, size, _ := strings.Cut(text, "=")
		bound := settings.Bounds.Of(name)
		if bound == nil {
			return o, fault.New(fault.Usage, "", "--bound %q: want KIND=SIZE, where KIND is one of %s", text, strings.Join(host.BoundNames, ", "))
		}
		if err := bound.UnmarshalText([]byte(size)); err != nil {
			return o, fmt.Errorf("--bound %s: %w", name, err)
		}
	}
	return housekeeping.Options{
		Settings: settings, Keep: f.keep, Look: f.list || f.dryRun,
		Log: func(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) },
	}, nil
}

func pruned(r housekeeping.Report, look bool) pruneDocument {
	d := pruneDocument{APIVersion: pruneVersion, Kind: report.PruneKind, DryRun: look, Kinds: []pruneKind{}, Images: []imageEntry{}}
	for _, k := range r.Kinds {
		kind := pruneKind{
			Kind: k.Name, Path: k.Path, BeforeBytes: k.Bytes, FreedBytes: k.Freed, AfterBytes: k.Bytes - k.Freed, Policy: k.Policy, Note: k.Note,
		}
		if k.Bound != housekeeping.Unbounded {
			kind.BoundBytes = &k.Bound
		}
		d.Kinds = append(d.Kinds, kind)
	}
	for _, i := range r.Images {
		d.Images = append(d.Images, entryOf(i))
	}
	return d
}

// boundText is a bound for people.
func boundText(k housekeeping.Kind) string {
	if k.Bound == housekeeping.Unbounded {
		return "none"
	}
	return display.Bytes(k.Bound)
}

// printKept lists what is kept.
func printKept(w io.Writer, r housekeeping.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "KIND\tSIZE\tBOUND\tPOLICY\tPATH")
	for _, k := range r.Kinds {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Name, display.Bytes(k.Bytes), boundText(k), k.Policy, k.Path)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printNotes(w, r)
}

// printPruned says what went, or would.
func printPruned(w io.Writer, r housekeeping.Report, look bool) error {
	header, images, sum := "FREED", "removed", "Freed %s.\n"
	if look {
		header, images, sum = "WOULD FREE", "would go", "Nothing was removed; without --dry-run %s would be freed.\n"
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "KIND\tBEFORE\t%s\tAFTER\tBOUND\n", header)
	for _, k := range r.Kinds {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Name, display.Bytes(k.Bytes), display.Bytes(k.Freed), display.Bytes(k.Bytes-k.Freed), boundText(k))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, i := range r.Images {
		fmt.Fprintf(w, "image %s %s\n", i.Reference(), images)
	}
	if err := printNotes(w, r); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, sum, display.Bytes(r.Freed()))
	return err
}

// printNotes says of which kinds something could not be done.
func printNotes(w io.Writer, r housekeeping.Report) error {
	for _, k := range r.Kinds {
		if k.Note == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", k.Name, k.Note); err != nil {
			return err
		}
	}
	return nil
}
