package known

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/scratch"
)

// File is an image file that is open as a disk.
type File struct {
	format.Source
	Format format.Format
	File   *os.File
	Info   os.FileInfo

	folder *scratch.Dir // to be removed with the file; nil if it is not ours
}

// OpenFile opens the file at path as the named format, or, if that is empty, as
// what its content looks like.
func OpenFile(path, formatName string) (_ *File, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // the first error counts
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f, err := Of(file, info.Size())
	if formatName != "" {
		f, err = Named(formatName)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	source, err := f.Open(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: as %s: %w", path, f.Name, err)
	}
	return &File{Source: source, Format: f, File: file, Info: info}, nil
}

// Close closes the file, which was only read, and removes it if Unpack made it.
func (f *File) Close() error {
	err := f.File.Close()
	if f.folder != nil {
		err = errors.Join(err, f.folder.Close())
	}
	return err
}

// Unpack writes the image's disk to a sparse raw file in a temporary folder and
// opens that. It is for images of Sequential formats, and for programs that read
// no other format than raw.
func (f *File) Unpack(ctx context.Context) (*File, error) { return Unpack(ctx, f, f.File.Name()) }

// Unpack does the same with any disk; name is what errors call it.
func Unpack(ctx context.Context, source format.Source, name string) (_ *File, err error) {
	folder, err := scratch.New("", scratch.Prefix+"disk-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the unpacked disk: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, folder.Close())
		}
	}()
	path := filepath.Join(folder.Path(), "disk"+raw.Format.Suffix)
	target := format.Target{Path: path, New: raw.New}
	if _, err := (format.Converter{}).Convert(ctx, source, []format.Target{target}); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	disk, err := OpenFile(path, raw.Format.Name)
	if err != nil {
		return nil, err
	}
	disk.folder = folder
	return disk, nil
}
