package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/deb"
)

// UnpackConfig is the input of Unpack.
type UnpackConfig struct {
	Packages []string          `json:"packages"` // file names below From
	From     string            `json:"from"`
	Out      string            `json:"out"`   // root of the tree
	Links    map[string]string `json:"links"` // made first: link -> target
	// Presets are files that are written next: path -> text.
	Presets map[string]string `json:"presets,omitempty"`
	// Exclude and Include are dpkg's path filters.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
}

// Unpack writes the files of packages into a tree, several packages at once,
// without running anything of theirs: enough for a tree of tools, and the
// ground on which dpkg can then install the essential packages properly. Times
// are those of the packages, and epoch where no package names one.
func Unpack(ctx context.Context, config UnpackConfig, epoch time.Time) error {
	root, err := os.OpenRoot(config.Out)
	if err != nil {
		return err
	}
	defer root.Close()
	for link, target := range config.Links {
		if err := root.MkdirAll(path.Dir(link), 0o755); err != nil {
			return err
		}
		// The link's target, so that no package makes a directory in its place.
		if directory := path.Join(path.Dir(link), target); path.Dir(link) == "." {
			if err := root.MkdirAll(directory, 0o755); err != nil {
				return err
			}
		}
		if err := deb.Symlink(root, target, link, epoch); err != nil {
			return err
		}
	}
	for name, text := range config.Presets {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := errors.Join(root.WriteFile(name, []byte(text), 0o644), root.Chtimes(name, epoch, epoch)); err != nil {
			return err
		}
	}
	filter, times := deb.NewFilter(config.Exclude, config.Include), &deb.DirectoryTimes{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range config.Packages {
		group.Go(func() error {
			if err := unpackPackage(ctx, root, filepath.Join(config.From, name), filter, times); err != nil {
				return fmt.Errorf("unpacking %s: %w", name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := times.Set(root, epoch); err != nil {
		return err
	}
	fmt.Printf("unpacked %d packages\n", len(config.Packages))
	return nil
}

func unpackPackage(ctx context.Context, root *os.Root, file string, filter deb.Filter, times *deb.DirectoryTimes) error {
	archive, err := os.Open(file)
	if err != nil {
		return err
	}
	defer archive.Close()
	data, err := deb.DataTar(ctx, archive)
	if err != nil {
		return err
	}
	if err := deb.Unpack(ctx, root, data, filter, times); err != nil {
		_ = data.Close()
		return err
	}
	return data.Close()
}
