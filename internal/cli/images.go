package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/store"
)

// openStore opens the store of this machine and user.
func openStore() (*store.Store, error) {
	dir, err := host.StoreDir()
	if err != nil {
		return nil, err
	}
	return store.Open(dir)
}

// findStored returns the image of the store that a reference names.
func findStored(ctx context.Context, reference string) (*store.Store, store.Reference, store.Image, error) {
	images, err := openStore()
	if err != nil {
		return nil, store.Reference{}, store.Image{}, err
	}
	r, err := store.ParseReference(reference)
	if err != nil {
		return nil, r, store.Image{}, err
	}
	image, err := images.Find(ctx, r)
	return images, r, image, err
}

// imagesVersion is that of the document that images --json prints.
const imagesVersion = "nodesmith.dev/images/v1alpha1"

// imageEntry is one image in that document.
type imageEntry struct {
	Name            string            `json:"name"`
	Tags            []string          `json:"tags"`
	Digest          string            `json:"digest"`
	OS              string            `json:"os"`
	Kubernetes      string            `json:"kubernetes"`
	Architecture    string            `json:"architecture"`
	Infrastructures []string          `json:"infrastructures"`
	SizeBytes       int64             `json:"sizeBytes"`
	Built           time.Time         `json:"built"`
	Stored          time.Time         `json:"stored"`
	Proven          map[string]string `json:"proven"`
}

func entryOf(i store.Image) imageEntry {
	e := imageEntry{
		Name: i.Name, Tags: i.Tags, Digest: i.Digest.String(), OS: i.OS, Kubernetes: i.Kubernetes, Architecture: i.Architecture,
		Infrastructures: i.Infrastructures, SizeBytes: i.Bytes, Built: i.Built, Stored: i.Stored, Proven: map[string]string{},
	}
	if e.Tags == nil {
		e.Tags = []string{}
	}
	for _, name := range i.Infrastructures {
		e.Proven[name] = i.Proven[name].Level.String()
	}
	return e
}

func imagesCommand(s streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "images [NAME]", Short: "List the images in the store",
		Long: `List the images in the store, what was stored last first. NAME:TAG names one; an
image whose tag another one got is named by its digest. SIZE counts chunks that
images share with each of them.`,
		Args: atMostOne("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			images, err := openStore()
			if err != nil {
				return err
			}
			list, err := images.Images()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				list = slices.DeleteFunc(list, func(i store.Image) bool { return i.Name != args[0] })
			}
			if asJSON {
				entries := []imageEntry{}
				for _, i := range list {
					entries = append(entries, entryOf(i))
				}
				return printJSON(s.out, map[string]any{"apiVersion": imagesVersion, "kind": report.ImagesKind, "images": entries})
			}
			return printImages(s.out, list)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document, an ImagesReport")
	return c
}

func printImages(w io.Writer, list []store.Image) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NAME\tTAG\tOS\tKUBERNETES\tINFRASTRUCTURES\tSIZE\tBUILT\tSTORED\tPROVEN")
	for _, i := range list {
		tag := strings.Join(i.Tags, ",")
		if tag == "" {
			_, tag, _ = strings.Cut(i.Reference(), "@")
			tag = "@" + tag
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, tag, i.OS, i.Kubernetes, strings.Join(i.Infrastructures, ","),
			display.Bytes(i.Bytes), i.Built.Format(time.DateOnly), i.Stored.Local().Format("2006-01-02 15:04"), provenText(i))
	}
	return t.Flush()
}

// provenText is the level that all of an image's disks have, or that of each.
func provenText(i store.Image) string {
	levels := map[proof.Level]bool{}
	var each []string
	for _, name := range i.Infrastructures {
		level := i.Proven[name].Level
		levels[level] = true
		each = append(each, name+"="+level.String())
	}
	if len(levels) == 1 {
		return i.Proven[i.Infrastructures[0]].Level.String()
	}
	return strings.Join(each, ",")
}

func tagCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "tag IMAGE NAME:TAG", Short: "Give an image in the store another name",
		Example: "  nodesmith tag debian-12 debian-12:stable",
		Args:    exactly("IMAGE", "NAME:TAG"),
		RunE: func(c *cobra.Command, args []string) error {
			images, err := openStore()
			if err != nil {
				return err
			}
			from, err := store.ParseReference(args[0])
			if err != nil {
				return err
			}
			to, err := store.ParseReference(args[1])
			if err != nil {
				return err
			}
			image, err := images.Tag(c.Context(), from, to)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, image.Reference())
			return err
		},
	}
}

func removeCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "rm IMAGE...", Short: "Remove images from the store",
		Long: `Remove images from the store. NAME:TAG takes that tag away, and the image goes with
its last one; NAME, which is NAME:latest, and NAME@DIGEST take all tags. What no
other image has is freed at once, unless another nodesmith reads or writes images
just now: then the next rm or prune frees it.`,
		Example: "  nodesmith rm debian-12:3fa9c1d2e4b5",
		Args:    atLeastOne("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			images, err := openStore()
			if err != nil {
				return err
			}
			for _, argument := range args {
				r, err := store.ParseReference(argument)
				if err != nil {
					return err
				}
				image, err := images.Remove(c.Context(), r)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(s.out, "%s %s\n", r, image.Digest); err != nil {
					return err
				}
			}
			freed, done, err := images.Collect(c.Context())
			if err != nil {
				return err
			}
			if !done {
				fmt.Fprintln(s.err, "Another nodesmith uses the store: the space is freed later.")
				return nil
			}
			fmt.Fprintf(s.err, "Freed %s.\n", display.Bytes(freed.Bytes))
			return nil
		},
	}
}
