package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/report"
)

// titleOf says what is built.
func titleOf(image *v1alpha1.NodeImage) string {
	spec := image.Spec
	return fmt.Sprintf("%s: %s %s, Kubernetes %s, %s", image.Metadata.Name, spec.OS.Distro, spec.OS.Version, spec.Kubernetes.Version, spec.Architecture)
}

// printClosing says for people what a build made, what each stage took, and which
// command comes next.
func printClosing(w io.Writer, image *v1alpha1.NodeImage, artifacts []pipeline.Artifact, stages []report.Stage, took time.Duration) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nBuilt %s, in %s\n\n", titleOf(image), display.Duration(took))
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "  STAGE\tTIME\tSIZE")
	for _, s := range stages {
		state, size := "cached", "-"
		if !s.Cached {
			state = display.Seconds(s.Seconds)
		}
		if s.SizeBytes > 0 {
			size = display.Bytes(s.SizeBytes)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", s.Name, state, size)
	}
	fmt.Fprintln(t, "\n  FILE\tDISK\tSTORED")
	for _, a := range artifacts {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", a.Path, display.Bytes(a.SizeBytes), display.Bytes(a.StoredBytes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if artifacts[0].Image != "" {
		fmt.Fprintf(&b, "\n  In the store as %s\n", artifacts[0].Image)
	}
	fmt.Fprintf(&b, "\nProve that it boots: nodesmith verify %s --level boot\n\n", provable(artifacts))
	_, err := io.WriteString(w, b.String())
	return err
}

// provable is what verify should be given of what was built: the image in the store,
// which keeps the report for publish, with one infrastructure of several behind it; or
// else a file.
func provable(artifacts []pipeline.Artifact) string {
	first := artifacts[0]
	several := slices.ContainsFunc(artifacts, func(a pipeline.Artifact) bool { return a.Infrastructure != first.Infrastructure })
	switch {
	case first.Image == "":
		return first.Path
	case several:
		return first.Image + "/" + first.Infrastructure
	}
	return first.Image
}

// printPaths prints where the image files are.
func printPaths(w io.Writer, artifacts []pipeline.Artifact) error {
	for _, a := range artifacts {
		if _, err := fmt.Fprintln(w, a.Path); err != nil {
			return err
		}
	}
	return nil
}

// printBuild prints the document of a build, whose files have those digests.
func printBuild(w io.Writer, image *v1alpha1.NodeImage, artifacts []pipeline.Artifact, digests []digest.Digest, stages []report.Stage) error {
	document := report.Build{APIVersion: report.APIVersion, Kind: report.BuildKind, Image: image.Metadata.Name, Stages: stages}
	for i, a := range artifacts {
		document.Artifacts = append(document.Artifacts, report.Artifact{
			Infrastructure: a.Infrastructure, Architecture: a.Architecture, Format: a.Format, Path: a.Path,
			Digest: digests[i].String(), SizeBytes: a.FileBytes,
		})
	}
	return printJSON(w, document)
}
