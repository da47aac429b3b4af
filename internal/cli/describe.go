package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/store"
)

// descriptionVersion is that of the document that inspect --json prints of an
// image in the store.
const descriptionVersion = "nodesmith.dev/image/v1alpha1"

// description is everything that the store knows of an image.
type description struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Image      imageEntry `json:"image"`
	// SharedBytes is what other images have, too, OwnBytes what would be freed
	// without this one.
	SharedBytes int64                 `json:"sharedBytes"`
	OwnBytes    int64                 `json:"ownBytes"`
	Disks       []diskDescription     `json:"disks"`
	Documents   []documentDescription `json:"documents"`
}

type diskDescription struct {
	Infrastructure string              `json:"infrastructure"`
	Architecture   string              `json:"architecture"`
	Manifest       string              `json:"manifest"`
	Digest         string              `json:"digest"`
	SizeBytes      int64               `json:"sizeBytes"`
	Chunks         int                 `json:"chunks"`
	ChunkBytes     int64               `json:"chunkBytes"`
	StoredBytes    int64               `json:"storedBytes"`
	Whole          bool                `json:"whole"`
	Firmware       []string            `json:"firmware"`
	Formats        []string            `json:"formats"`
	Proven         string              `json:"proven"`
	SecureBoot     bool                `json:"secureBoot"`
	Reports        []reportDescription `json:"reports"`
}

type reportDescription struct {
	Level    string    `json:"level"`
	Verdict  string    `json:"verdict"`
	Firmware []string  `json:"firmware,omitempty"`
	At       time.Time `json:"at"`
}

type documentDescription struct {
	Type           string `json:"type"`
	Infrastructure string `json:"infrastructure,omitempty"`
	Title          string `json:"title"`
	SizeBytes      int64  `json:"sizeBytes"`
}

// describe collects what the store knows of an image: of all its disks, or of the one
// for an infrastructure.
func describe(ctx context.Context, images *store.Store, i store.Image, infrastructure string) (description, error) {
	d := description{APIVersion: descriptionVersion, Kind: report.ImageKind, Image: entryOf(i), Disks: []diskDescription{}, Documents: []documentDescription{}}
	shared, own, err := images.Shared(ctx, i)
	if err != nil {
		return d, err
	}
	d.SharedBytes, d.OwnBytes = shared.Bytes, own.Bytes
	disks, err := disksFor(ctx, images, i, infrastructure)
	if err != nil {
		return d, err
	}
	for _, disk := range disks {
		described, err := describeDisk(ctx, images, disk)
		if err != nil {
			return d, err
		}
		d.Disks = append(d.Disks, described)
	}
	documents, err := images.Documents(ctx, i)
	for _, document := range documents {
		if infrastructure != "" && document.Infrastructure != "" && document.Infrastructure != infrastructure {
			continue
		}
		d.Documents = append(d.Documents, documentDescription{document.Type, document.Infrastructure, document.Title, document.Size})
	}
	return d, err
}

// disksFor are the image's disks, or the one for an infrastructure.
func disksFor(ctx context.Context, images *store.Store, i store.Image, infrastructure string) ([]*store.Disk, error) {
	if infrastructure == "" {
		return images.Disks(ctx, i)
	}
	disk, err := images.Disk(ctx, i, infrastructure)
	return []*store.Disk{disk}, err
}

func describeDisk(ctx context.Context, images *store.Store, disk *store.Disk) (diskDescription, error) {
	d := diskDescription{
		Infrastructure: disk.Infrastructure, Architecture: disk.Architecture, Manifest: disk.Manifest.Digest.String(), Digest: disk.Digest.String(),
		SizeBytes: disk.Table.Size, Chunks: len(disk.Table.Chunks), ChunkBytes: disk.Table.ChunkSize, StoredBytes: disk.Table.StoredBytes(),
		Whole: disk.Whole(), Firmware: append([]string{}, disk.Firmware...), Formats: []string{}, Reports: []reportDescription{},
	}
	for _, f := range disk.Formats {
		d.Formats = append(d.Formats, f.Name)
	}
	proven, err := images.Proven(ctx, disk)
	if err != nil {
		return d, err
	}
	d.Proven, d.SecureBoot = proven.Level.String(), proven.SecureBoot
	reports, err := images.Reports(ctx, disk)
	for _, r := range reports {
		verdict := "fail"
		if r.Passed {
			verdict = "pass"
		}
		d.Reports = append(d.Reports, reportDescription{r.Level.String(), verdict, r.Firmware, r.At})
	}
	return d, err
}

// printDescription prints it for people.
func printDescription(w io.Writer, d description) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	i := d.Image
	for _, line := range [][2]string{
		{"image", i.Name}, {"tags", strings.Join(i.Tags, " ")}, {"digest", i.Digest}, {"operating system", i.OS}, {"kubernetes", i.Kubernetes},
		{"built", i.Built.Format(time.RFC3339)}, {"stored", i.Stored.Format(time.RFC3339)}, {"size", bytesText(i.SizeBytes)},
		{"shared with other images", bytesText(d.SharedBytes)}, {"its own", bytesText(d.OwnBytes)},
	} {
		fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
	}
	for _, disk := range d.Disks {
		fmt.Fprintf(t, "\ndisk for %s\t%s, boots on %s\n", disk.Infrastructure, disk.Architecture, strings.Join(disk.Firmware, ", "))
		fmt.Fprintf(t, "  digest\t%s\n  manifest\t%s\n", disk.Digest, disk.Manifest)
		fmt.Fprintf(t, "  size\t%s; %d chunks of %s that are not zero, %s stored\n", bytesText(disk.SizeBytes), disk.Chunks, display.Bytes(disk.ChunkBytes), display.Bytes(disk.StoredBytes))
		fmt.Fprintf(t, "  formats\t%s\n", strings.Join(disk.Formats, ", "))
		if !disk.Whole {
			fmt.Fprintf(t, "  damaged\tchunks are missing: build or pull the image again\n")
		}
		proven := disk.Proven
		if disk.SecureBoot {
			proven += ", with Secure Boot"
		}
		fmt.Fprintf(t, "  proven\t%s\n", proven)
		for _, r := range disk.Reports {
			fmt.Fprintf(t, "  report\t%s\n", strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.At.Format(time.RFC3339), r.Level, r.Verdict, strings.Join(r.Firmware, ","))))
		}
	}
	fmt.Fprintln(t, "\nDOCUMENT\tSIZE\tTYPE")
	for _, doc := range d.Documents {
		fmt.Fprintf(t, "%s\t%s\t%s\n", doc.Title, display.Bytes(doc.SizeBytes), doc.Type)
	}
	return t.Flush()
}
