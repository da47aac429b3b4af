// Package pack makes a disk fit for the way from a far engine to its client.
//
// What comes in is the map of a disk in the build graph, and its trees; what goes out
// is the disk as a qcow2 image: zero blocks left out, the others compressed, and read
// as a disk, or taken as it is, where it arrives. BuildKit's own exporters would send
// every hole as zeros.
package pack

import (
	"context"
	"errors"
	"time"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/mapped"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
)

// Format is what a disk is packed as. It is that of files for users, so that
// one who wants this format gets the very file that arrived.
var Format = qcow2.Format

// Config says which disk is packed, and where to.
type Config struct {
	// Disk is the directory of the disk's map, Trees those of its trees, by name.
	Disk  string
	Trees map[string]string
	Out   string
}

// Disk packs the disk. The result depends on its content alone.
func Disk(ctx context.Context, c Config, _ time.Time) (err error) {
	disk, err := mapped.Open(c.Disk, c.Trees)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	_, err = format.Converter{}.Convert(ctx, disk, []format.Target{{Path: c.Out, New: Format.New}})
	return err
}
