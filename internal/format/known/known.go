// Package known is the table of formats that nodesmith was built with.
package known

import (
	"fmt"
	"io"
	"strings"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/gce"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/format/vhd"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

// formats is in the order in which files are probed: anything can be raw.
var formats = []format.Format{qcow2.Format, vmdk.Format, ova.Format, gce.Format, vhd.Format, raw.Format}

// Names lists the formats as the command line calls them.
func Names() []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name
	}
	return names
}

// Suffixes lists what the names of the formats' files end with.
func Suffixes() []string {
	suffixes := make([]string, len(formats))
	for i, f := range formats {
		suffixes[i] = f.Suffix
	}
	return suffixes
}

// Named returns the format of that name.
func Named(name string) (format.Format, error) {
	for _, f := range formats {
		if f.Name == name {
			return f, nil
		}
	}
	return format.Format{}, fmt.Errorf("no format %q: there are %s", name, strings.Join(Names(), ", "))
}

// Of returns the format of a file of size bytes, by its content.
func Of(r io.ReaderAt, size int64) (format.Format, error) {
	for _, f := range formats {
		ok, err := f.Probe(r, size)
		if err != nil {
			return format.Format{}, fmt.Errorf("is it %s? %w", f.Name, err)
		}
		if ok {
			return f, nil
		}
	}
	return raw.Format, nil
}
