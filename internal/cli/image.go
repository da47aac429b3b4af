package cli

import (
	"context"
	"errors"
	"os"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// openImage opens an image file as the named format, or as what its content
// looks like.
func openImage(path, formatName string) (*known.File, error) {
	if err := readable(path, formatName); err != nil {
		return nil, err
	}
	image, err := known.OpenFile(path, formatName)
	return image, readFault(err)
}

// readable says why a path can't be that of an image in the named format.
func readable(path, formatName string) error {
	if info, err := os.Stat(path); err != nil {
		return fault.New(fault.Usage, "", "image: %w", err)
	} else if !info.Mode().IsRegular() {
		return fault.New(fault.Usage, "", "image: %s is not a regular file", path)
	}
	if _, err := known.Named(formatName); formatName != "" && err != nil {
		return fault.New(fault.Usage, "", "--from: %w", err)
	}
	return nil
}

// openDisk opens an image, a file or one in the store, for reads in any order: what
// can only be read forward is unpacked first.
func openDisk(ctx context.Context, argument, formatName string) (openedDisk, error) {
	s, err := findSubject(ctx, argument, "")
	if err != nil {
		return nil, err
	}
	return s.open(ctx, formatName)
}

// openForQEMU opens an image that QEMU reads, and says how: what no driver of
// QEMU knows is unpacked first.
func openForQEMU(ctx context.Context, s subject, formatName string) (_ *known.File, disk vmtest.Disk, err error) {
	image, err := s.file(ctx, formatName)
	if err != nil {
		return nil, disk, err
	}
	if image.Format.QEMU == "" {
		packed := image
		defer func() { _ = packed.Close() }() // only read
		if image, err = packed.Unpack(ctx); err != nil {
			return nil, disk, readFault(err)
		}
	}
	disk = vmtest.Disk{Path: image.File.Name(), Format: vmtest.Format(image.Format.QEMU)}
	if e, ok := image.Source.(format.Embedding); ok {
		disk.Offset, disk.Length = e.Embedded().Offset, e.Embedded().Length
	}
	return image, disk, nil
}

// bootable says why a disk can't boot, on whatever firmware, if its first
// sector shows it: a file that is no disk at all is not worth ten minutes.
func bootable(path string, disk format.Source) error {
	var sector [format.SectorSize]byte
	if _, err := disk.ReadAt(sector[:], 0); err != nil || sector[510] != 0x55 || sector[511] != 0xaa {
		return fault.New(fault.Usage, "nodesmith inspect says what it is", "image: %s holds no disk that boots: its first sector does not end with 55aa", path)
	}
	return nil
}

// readFault gives an error of reading an image its kind.
func readFault(err error) error {
	if errors.Is(err, format.ErrCorrupt) {
		return fault.New(fault.Unverifiable, "fetch or make the image again; --from says what it is if its content misleads", "%w", err)
	}
	return err
}
