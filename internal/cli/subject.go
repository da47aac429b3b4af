package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/store"
)

// imageArgument is how commands explain their IMAGE.
const imageArgument = `IMAGE is a file, or an image in the store: NAME, NAME:TAG or NAME@sha256:DIGITS, with
/INFRASTRUCTURE behind it where it has disks for several.`

// subject is what a command was given as IMAGE.
type subject struct {
	name   string
	images *store.Store
	disk   *store.Disk // nil for a file
}

// openedDisk is a subject that is open to be read.
type openedDisk interface {
	format.Source
	io.Closer
}

// findSubject returns what an argument means: a file if there is one of that name,
// else a disk in the store.
func findSubject(ctx context.Context, argument, infrastructure string) (subject, error) {
	file := subject{name: argument}
	_, statErr := os.Stat(argument)
	if !errors.Is(statErr, fs.ErrNotExist) {
		return file, nil
	}
	r, behind, ok := storedReference(argument)
	if !ok {
		return file, nil // a path: opening the file says what is wrong
	}
	images, image, err := findBesideFiles(ctx, argument, r)
	if err != nil {
		return file, err
	}
	if behind != "" && infrastructure != "" && behind != infrastructure {
		return file, fault.New(fault.Usage, "name one infrastructure", "%s is the disk for %s, not %s", argument, behind, infrastructure)
	}
	disk, err := images.Disk(ctx, image, cmp.Or(behind, infrastructure))
	return subject{argument, images, disk}, err
}

// storedReference reads an argument as what an image in the store is called, and the
// infrastructure behind it, "" where none is; false if it can only be a path.
func storedReference(argument string) (r store.Reference, infrastructure string, ok bool) {
	text, behind, split := strings.Cut(argument, "/")
	r, err := store.ParseReference(text)
	return r, behind, err == nil && (!split || behind != "" && !strings.Contains(behind, "/"))
}

// findBesideFiles returns the image of the store that an argument means, of which
// there is no file.
func findBesideFiles(ctx context.Context, argument string, r store.Reference) (*store.Store, store.Image, error) {
	images, err := openStore()
	if err != nil {
		return nil, store.Image{}, err
	}
	image, err := images.Find(ctx, r)
	if err != nil && fault.KindOf(err) == fault.Usage {
		remedy := cmp.Or(fault.RemedyOf(err), "nodesmith images lists what there is")
		err = fault.New(fault.Usage, remedy, "there is no file %s, and %w", argument, err)
	}
	return images, image, err
}

// open opens the subject for reads in any order.
func (s subject) open(ctx context.Context, formatName string) (openedDisk, error) {
	if s.disk != nil {
		return s.disk.Open(ctx)
	}
	image, err := openImage(s.name, formatName)
	if err != nil || !image.Format.Sequential {
		return image, err
	}
	defer func() { _ = image.Close() }() // only read
	disk, err := image.Unpack(ctx)
	return disk, readFault(err)
}

// file opens the subject as a file of a format: a disk of the store is unpacked.
func (s subject) file(ctx context.Context, formatName string) (_ *known.File, err error) {
	if s.disk == nil {
		return openImage(s.name, formatName)
	}
	content, err := s.disk.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer closing(&err, content)
	disk, err := known.Unpack(ctx, content, s.disk.Reference())
	return disk, readFault(err)
}

// infrastructure is the one that the image is for; "" if nobody says.
func (s subject) infrastructure() string {
	if s.disk != nil {
		return s.disk.Infrastructure
	}
	return infrastructureOf(s.name)
}

// customization is what the image's manifest lists as asked for by its spec;
// nothing where there is no manifest.
func (s subject) customization(ctx context.Context) (manifest.Customization, error) {
	if s.disk == nil {
		return customizationOf(s.name)
	}
	document, ok, err := s.images.Document(ctx, s.disk.From, store.ManifestType, s.disk.Infrastructure)
	if err != nil || !ok {
		return manifest.Customization{}, err
	}
	data, err := document.Read()
	if err != nil {
		return manifest.Customization{}, err
	}
	m, err := manifest.Parse(document.Title, data)
	if err != nil {
		return manifest.Customization{}, err
	}
	return m.Customization, nil
}

// attach keeps a report with a disk of the store.
func (s subject) attach(ctx context.Context, level proof.Level, passed bool, firmware []string, report []byte) error {
	if s.disk == nil {
		return nil
	}
	result := proof.Result{Level: level, Passed: passed, Firmware: firmware, At: host.Now()}
	if err := s.images.Attach(ctx, s.disk, result, report); err != nil {
		return fmt.Errorf("keep the report with %s: %w", s.disk.Reference(), err)
	}
	return nil
}

// proven says how far a disk of the store was proven.
func (s subject) proven(ctx context.Context) (proof.Proof, error) {
	return s.images.Proven(ctx, s.disk)
}
