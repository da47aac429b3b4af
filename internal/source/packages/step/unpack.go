package step

import (
	"archive/tar"
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
	// Directories are made too.
	Directories []string `json:"directories,omitempty"`
	// Exclude and Include are dpkg's path filters.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
}

// Unpack writes the files of packages into a tree, several packages at once,
// without running anything of theirs: enough for a tree of tools. Times are those
// of the packages, and epoch where no package names one.
func Unpack(ctx context.Context, config UnpackConfig, epoch time.Time) error {
	tree, err := config.Open(epoch)
	if err != nil {
		return err
	}
	defer tree.Close()
	err = tree.Each(ctx, config.Packages, func(ctx context.Context, name string) error { return tree.Unpack(ctx, name, nil) })
	if err != nil {
		return err
	}
	if err := tree.SetTimes(epoch); err != nil {
		return err
	}
	fmt.Printf("unpacked %d packages\n", len(config.Packages))
	return nil
}

// Tree is one that packages are being unpacked into.
type Tree struct {
	*os.Root
	config UnpackConfig
	filter deb.Filter
	times  deb.DirectoryTimes
}

// Open begins a tree with what is there before any package.
func (c UnpackConfig) Open(epoch time.Time) (*Tree, error) {
	root, err := os.OpenRoot(c.Out)
	if err != nil {
		return nil, err
	}
	tree := &Tree{Root: root, config: c, filter: deb.NewFilter(c.Exclude, c.Include)}
	if err := tree.begin(epoch); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return tree, nil
}

// Each calls unpack for the package files of those names, several at once.
func (t *Tree) Each(ctx context.Context, names []string, unpack func(ctx context.Context, name string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		group.Go(func() error {
			if err := unpack(ctx, name); err != nil {
				return fmt.Errorf("unpacking %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// SetTimes gives directories their times. Nothing is to be written afterwards.
func (t *Tree) SetTimes(epoch time.Time) error { return t.times.Set(t.Root, epoch) }

// begin makes what is there before any package.
func (t *Tree) begin(epoch time.Time) error {
	for link, target := range t.config.Links {
		if err := t.MkdirAll(path.Dir(link), 0o755); err != nil {
			return err
		}
		// The link's target, so that no package makes a directory in its place.
		if directory := path.Join(path.Dir(link), target); path.Dir(link) == "." {
			if err := t.MkdirAll(directory, 0o755); err != nil {
				return err
			}
		}
		if have, err := t.Readlink(link); err == nil && have == target {
			continue // in a tree that holds packages already
		}
		if err := deb.Symlink(t.Root, target, link, epoch); err != nil {
			return err
		}
	}
	for _, name := range t.config.Directories {
		if err := t.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	for name, text := range t.config.Presets {
		if err := t.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := errors.Join(t.WriteFile(name, []byte(text), 0o644), t.Chtimes(name, epoch, epoch)); err != nil {
			return err
		}
	}
	return nil
}

// Unpack writes the files of one package; entry is what deb.Unpack takes.
func (t *Tree) Unpack(ctx context.Context, name string, entry func(header *tar.Header, leftOut bool) error) error {
	archive, err := os.Open(filepath.Join(t.config.From, name))
	if err != nil {
		return err
	}
	defer archive.Close()
	data, err := deb.DataTar(ctx, archive)
	if err != nil {
		return err
	}
	if err := deb.Unpack(ctx, t.Root, data, t.filter, &t.times, entry); err != nil {
		_ = data.Close()
		return err
	}
	return data.Close()
}
