//go:build linux

package containerimage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/whiteout"
)

// The names of whiteouts in a layer (OCI image specification, layer.md,
// "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// applier unpacks a layer into the directory of its snapshot.
//
// containerd's own applier mounts the first layer of every image, and marks
// directories as opaque with trusted.overlay.opaque; both need CAP_SYS_ADMIN,
// which a build step has not. Here the snapshot's directories are written to
// as they are, and an opaque directory becomes a whiteout for each name below
// it, which overlayfs shows in the same way.
type applier struct {
	provider content.Provider
	epoch    time.Time
}

// Apply implements diff.Applier. The descriptor that it returns is that of the
// layer's tar stream, uncompressed.
func (a applier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, _ ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	upper, lowers, err := directories(mounts)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	reader, err := a.provider.ReaderAt(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer reader.Close()
	stream, err := compression.DecompressStream(content.NewReader(reader))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("decompress: %w", err)
	}
	defer stream.Close()
	digester := digest.Canonical.Digester()
	counter := &countingWriter{w: digester.Hash()}
	tee := io.TeeReader(stream, counter)
	c := changes{upper: upper, lowers: lowers, named: map[string]bool{}}
	if err := c.apply(ctx, tee); err != nil {
		return ocispec.Descriptor{}, err
	}
	// The diff ID covers what follows the tar's end marker, too.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := c.settle(a.epoch); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digester.Digest(), Size: counter.n}, nil
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// directories reads where a snapshot's own directory and those below it are,
// uppermost first, from the mount that the overlay snapshotter would have.
func directories(mounts []mount.Mount) (upper string, lowers []string, err error) {
	if len(mounts) != 1 {
		return "", nil, fmt.Errorf("want one mount for a snapshot, got %d", len(mounts))
	}
	switch m := mounts[0]; m.Type {
	case "bind": // a first layer
		return m.Source, nil, nil
	case "overlay":
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				upper = dir
			}
			if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
				lowers = strings.Split(dirs, ":")
			}
		}
		if upper != "" && len(lowers) > 0 {
			return upper, lowers, nil
		}
	}
	return "", nil, fmt.Errorf("can't write to a snapshot mounted as %v", mounts[0])
}

// changes is one layer on its way into upper, above lowers.
type changes struct {
	upper  string
	lowers []string // uppermost first
	// named are the directories that the layer has an entry for. What is not
	// in it was made on the way to something else.
	named map[string]bool
	// hidden are the paths, relative to upper, at and below which nothing of
	// the lower layers may show: opaque directories and whiteouts.
	hidden []string
}

// apply unpacks the tar stream. Whiteouts are only noted down: in a tar they
// may come before or after entries of the same name, and speak of the lower
// layers only.
func (c *changes) apply(ctx context.Context, r io.Reader) error {
	_, err := archive.Apply(ctx, c.upper, r,
		archive.WithParents(c.lowers),
		archive.WithFilter(func(h *tar.Header) (bool, error) {
			if h.Typeflag == tar.TypeDir {
				c.named[strings.TrimPrefix(path.Clean("/"+h.Name), "/")] = true
			}
			return true, nil
		}),
		archive.WithConvertWhiteout(func(_ *tar.Header, file string) (bool, error) {
			base := filepath.Base(file)
			if !strings.HasPrefix(base, whiteoutPrefix) {
				return true, nil
			}
			dir, err := filepath.Rel(c.upper, filepath.Dir(file))
			if err != nil {
				return false, err
			}
			if base == opaqueMarker {
				c.hidden = append(c.hidden, dir)
			} else {
				c.hidden = append(c.hidden, filepath.Join(dir, base[len(whiteoutPrefix):]))
			}
			return false, nil
		}))
	return err
}

// settle makes the whiteouts and gives a time to all that the layer has none for.
func (c *changes) settle(epoch time.Time) error {
	for _, rel := range c.hidden {
		if err := c.hide(rel); err != nil {
			return fmt.Errorf("hide %s of lower layers: %w", rel, err)
		}
	}
	return filepath.WalkDir(c.upper, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.upper, name)
		if err != nil {
			return err
		}
		made := d.IsDir() && !c.named[rel]
		if d.Type()&os.ModeCharDevice != 0 {
			if made, err = whiteout.Is(name); err != nil {
				return err
			}
		}
		if !made {
			// Whiteouts may have touched a directory that has its own time.
			return nil
		}
		return setTime(name, epoch)
	})
}

// hide makes sure that nothing of the lower layers shows at rel, except
// through what the layer itself put there.
func (c *changes) hide(rel string) error {
	below, err := c.lowerNames(rel)
	if err != nil {
		return err
	}
	name := filepath.Join(c.upper, rel)
	info, err := os.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return c.whiteout(rel)
	}
	if err != nil || !info.IsDir() {
		return err // a file of this layer hides what is below by itself
	}
	for _, child := range below {
		if err := c.hide(filepath.Join(rel, child)); err != nil {
			return err
		}
	}
	return nil
}

// whiteout makes overlayfs's sign for "not here": a character device 0:0
// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
// Where no lower layer has the name there is nothing to hide.
func (c *changes) whiteout(rel string) error {
	there := false
	for _, lower := range c.lowers {
		_, err := os.Lstat(filepath.Join(lower, rel))
		if there = err == nil; there {
			break
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
	if !there {
		return nil
	}
	name := filepath.Join(c.upper, rel)
	parent, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return err
	}
	if err := unix.Mknod(name, unix.S_IFCHR, 0); err != nil {
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	return setTime(filepath.Dir(name), parent.ModTime())
}

// lowerNames lists what shows of the lower layers in the directory rel, as
// overlayfs would merge it: layer by layer downwards, until one has something
// else than a directory there or on the way there.
func (c *changes) lowerNames(rel string) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	for _, lower := range c.lowers {
		dir, state, err := findDirectory(lower, rel)
		if err != nil {
			return nil, err
		}
		if state == blocked {
			break
		}
		if state == absent {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			gone, err := whiteout.Is(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			if !gone {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// presence is what a lower layer has at a directory's path.
type presence int

const (
	absent  presence = iota // nothing: the layers below it show through
	present                 // a directory
	blocked                 // something that hides the layers below it
)

// findDirectory looks for a directory without following symbolic links.
func findDirectory(root, rel string) (string, presence, error) {
	dir := root
	for _, part := range strings.Split(rel, string(filepath.Separator)) {
		dir = filepath.Join(dir, part)
		info, err := os.Lstat(dir)
		if errors.Is(err, os.ErrNotExist) {
			return "", absent, nil
		}
		if err != nil {
			return "", absent, err
		}
		if !info.IsDir() {
			return "", blocked, nil
		}
	}
	return dir, present, nil
}

// setTime sets access and modification time, of a symbolic link itself.
func setTime(name string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}
