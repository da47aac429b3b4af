package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/scratch"
	"nodesmith.dev/nodesmith/internal/store"
)

// imageFiles are the files that places ask for of one image. Each is made once,
// whatever the number of places, in a folder that goes with Close.
type imageFiles struct {
	// make writes a file of a format into a folder, or names one that is there.
	make func(ctx context.Context, formatName, folder string) (path string, err error)
	// disk is what they are made of.
	disk openedDisk

	mu     sync.Mutex
	folder *scratch.Dir      // nil while nothing was made
	paths  map[string]string // by format
}

// open opens the image as a file of a format: a publish.Image's Open.
func (f *imageFiles) open(ctx context.Context, formatName string) (publish.Content, error) {
	path, err := f.path(ctx, formatName)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &fileContent{file, info.Size()}, nil
}

func (f *imageFiles) path(ctx context.Context, formatName string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path, ok := f.paths[formatName]; ok {
		return path, nil
	}
	if f.folder == nil {
		folder, err := scratch.New("", scratch.Prefix+"publish-")
		if err != nil {
			return "", fmt.Errorf("make a folder for the %s: %w", formatName, err)
		}
		f.folder, f.paths = folder, map[string]string{}
	}
	path, err := f.make(ctx, formatName, f.folder.Path())
	if err != nil {
		return "", readFault(fmt.Errorf("make an %s of the image: %w", formatName, err))
	}
	f.paths[formatName] = path
	return path, nil
}

// Close closes the disk and removes what was made of it.
func (f *imageFiles) Close() error {
	err := f.disk.Close()
	if f.folder != nil {
		err = errors.Join(err, f.folder.Close())
	}
	return err
}

// filesOf are made of an image file, which is itself the file of its format.
func filesOf(path string, disk openedDisk) (*imageFiles, error) {
	image, err := openImage(path, "")
	if err != nil {
		return nil, err
	}
	own := image.Format.Name
	if err := image.Close(); err != nil {
		return nil, err
	}
	return &imageFiles{disk: disk, make: func(ctx context.Context, formatName, folder string) (string, error) {
		if formatName == own {
			return path, nil
		}
		target, err := known.Named(formatName)
		if err != nil {
			return "", err
		}
		signer, err := signerOf(formatName)
		if err != nil {
			return "", err
		}
		if signer != nil {
			target.New = ova.Options{Signer: signer}.New
		}
		made := filepath.Join(folder, "disk"+target.Suffix)
		_, err = (format.Converter{}).Convert(ctx, disk, []format.Target{{Path: made, New: target.New}})
		return made, err
	}}, nil
}

// filesOfStored are made of a disk in the store, with the settings that it was
// built with.
func filesOfStored(disk *store.Disk, content openedDisk) *imageFiles {
	return &imageFiles{disk: content, make: func(ctx context.Context, formatName, folder string) (string, error) {
		signer, err := signerOf(formatName)
		if err != nil {
			return "", err
		}
		artifacts, err := pipeline.Export(ctx, disk, pipeline.ExportOptions{Dir: folder, Formats: []string{formatName}, OVASigner: signer})
		if err != nil {
			return "", err
		}
		return artifacts[0].Path, nil
	}}
}

// signerOf is what files of a format are signed with: OVAs as build signs them.
func signerOf(formatName string) (*ova.Signer, error) {
	if formatName != ova.Format.Name {
		return nil, nil
	}
	return signingFlags{}.configured()
}

// fileContent is a publish.Content.
type fileContent struct {
	*os.File
	size int64
}

// Size is the file's, in bytes.
func (f *fileContent) Size() int64 { return f.size }
