package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/report"
)

// version is set by scripts/build.sh.
var version = ""

// versionVersion is that of the document that version --json prints.
const versionVersion = "nodesmith.dev/version/v1alpha1"

// versionDocument says what this nodesmith is, and what it knows.
type versionDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Version    string `json:"version"`
	// Go is that of the toolchain that compiled it, BuildKit that of the engine in it.
	Go       string `json:"go"`
	BuildKit string `json:"buildkit"`
	System   string `json:"system"`
	// Specs are the versions of NodeImage that it reads.
	Specs           []string        `json:"specs"`
	Kubernetes      []string        `json:"kubernetes"`
	Distributions   []knownVersions `json:"distributions"`
	Infrastructures []string        `json:"infrastructures"`
	Formats         []string        `json:"formats"`
	Architectures   []string        `json:"architectures"`
}

type knownVersions struct {
	Name     string   `json:"name"`
	Versions []string `json:"versions"`
}

func versionCommand(s streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the versions of nodesmith, and of what it builds", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			d := describeVersion()
			if asJSON {
				return printJSON(s.out, d)
			}
			return printVersion(s.out, d)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document, a VersionReport")
	return c
}

func describeVersion() versionDocument {
	known := pipeline.Known()
	d := versionDocument{
		APIVersion: versionVersion, Kind: report.VersionKind, Version: programVersion(), Go: runtime.Version(), BuildKit: moduleVersion("github.com/moby/buildkit"),
		System: runtime.GOOS + "/" + runtime.GOARCH, Specs: []string{v1alpha1.APIVersion}, Kubernetes: known.Kubernetes,
		Infrastructures: known.Infrastructures, Formats: known.Formats, Architectures: known.Architectures,
	}
	for name, versions := range known.Distributions {
		d.Distributions = append(d.Distributions, knownVersions{name, versions})
	}
	slices.SortFunc(d.Distributions, func(a, b knownVersions) int { return strings.Compare(a.Name, b.Name) })
	return d
}

func printVersion(w io.Writer, d versionDocument) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "nodesmith\t%s, %s\n", d.Version, d.System)
	fmt.Fprintf(t, "Go\t%s\nBuildKit\t%s\n", strings.TrimPrefix(d.Go, "go"), d.BuildKit)
	fmt.Fprintf(t, "Kubernetes\t%s to %s\n", d.Kubernetes[0], d.Kubernetes[len(d.Kubernetes)-1])
	for _, k := range d.Distributions {
		fmt.Fprintf(t, "%s\t%s\n", k.Name, strings.Join(k.Versions, ", "))
	}
	return t.Flush()
}

// programVersion is the version that the build stamped, else the module's.
func programVersion() string {
	if version != "" {
		return version
	}
	// "(devel)" is what Go calls a module whose version it does not know: images
	// record the version, and a parenthesis is none that a tag could have.
	if info, ok := debug.ReadBuildInfo(); ok {
		return strings.Trim(info.Main.Version, "()")
	}
	return "unknown"
}

// moduleVersion is that of a module in this program.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}
