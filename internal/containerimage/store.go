//go:build linux

package containerimage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// Where the daemon keeps things below its root: a directory for each plugin,
// named TYPE.ID (containerd/plugins/types.go), made with the modes that the
// plugins themselves use.
const (
	storeRoot    = "var/lib/containerd"
	contentDir   = "io.containerd.content.v1.content"
	metadataDir  = "io.containerd.metadata.v1.bolt"
	snapshotsDir = "io.containerd.snapshotter.v1.overlayfs"

	// snapshotter is the name that CRI and the labels call it by.
	snapshotter = "overlayfs"
)

// imageLabels are what CRI puts on images that it manages and that it has been
// told to pin (containerd/internal/cri/labels/labels.go). The kubelet's image
// garbage collector leaves pinned images alone.
var imageLabels = map[string]string{
	"io.cri-containerd.image":  "managed",
	"io.cri-containerd.pinned": "pinned",
}

// store is an open containerd store.
type store struct {
	root     string // .../var/lib/containerd
	epoch    time.Time
	platform ocispec.Platform
	bolt     *bolt.DB
	snaps    snapshots.Snapshotter
	db       *metadata.DB
	content  content.Store
	images   images.Store
}

// openStore makes the directories of a new store below output, and opens it.
func openStore(output, architecture string, epoch time.Time) (_ *store, err error) {
	st := &store{
		root:     filepath.Join(output, storeRoot),
		epoch:    epoch,
		platform: platforms.Normalize(ocispec.Platform{OS: "linux", Architecture: architecture}),
	}
	if err := st.makeDirectories(); err != nil {
		return nil, err
	}
	backend, err := local.NewStore(filepath.Join(st.root, contentDir))
	if err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	// Nothing here outlives a crash, so no database needs to wait for the disk.
	unsynced := func(o *bolt.Options) error { o.NoSync, o.NoFreelistSync = true, true; return nil }
	snapshotDB, err := storage.NewMetaStore(filepath.Join(st.root, snapshotsDir, "metadata.db"), unsynced)
	if err != nil {
		return nil, fmt.Errorf("open snapshot database: %w", err)
	}
	st.snaps, err = overlay.NewSnapshotter(filepath.Join(st.root, snapshotsDir), overlay.WithMetaStore(snapshotDB))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshotter: %w", err), snapshotDB.Close())
	}
	options := *bolt.DefaultOptions
	st.bolt, err = bolt.Open(filepath.Join(st.root, metadataDir, "meta.db"), 0o644, &options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open metadata database: %w", err), st.snaps.Close())
	}
	st.bolt.NoSync = true
	st.db = metadata.NewDB(st.bolt, backend, map[string]snapshots.Snapshotter{snapshotter: st.snaps})
	if err := st.db.Init(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("initialize metadata database: %w", err), st.close())
	}
	st.content = st.db.ContentStore()
	st.images = metadata.NewImageStore(st.db)
	return st, nil
}

// makeDirectories makes the plugins' directories; a store that is already
// there is refused, as its numbering of snapshots would go on.
func (st *store) makeDirectories() error {
	if _, err := os.Lstat(st.root); err == nil {
		return fmt.Errorf("%s exists: the store is written once, into an output that has none", st.root)
	}
	if err := os.MkdirAll(filepath.Dir(st.root), 0o755); err != nil {
		return err
	}
	for _, dir := range []struct {
		name string
		mode os.FileMode
	}{
		{"", 0o700}, // containerd 2.x, cmd/containerd/server; 1.x had 0711
		{contentDir, 0o755},
		{contentDir + "/blobs", 0o755},
		{contentDir + "/ingest", 0o755},
		{metadataDir, 0o711},
		{snapshotsDir, 0o700},
	} {
		if err := os.Mkdir(filepath.Join(st.root, dir.name), dir.mode); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(st.root, dir.name), dir.mode); err != nil {
			return err
		}
	}
	return nil
}

// close closes both databases.
func (st *store) close() error {
	return errors.Join(st.snaps.Close(), st.bolt.Close())
}

// write stores one small blob.
func (st *store) write(ctx context.Context, mediaType string, blob []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	w, err := content.OpenWriter(ctx, st.content, content.WithRef(desc.Digest.String()), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return desc, nil
	}
	if err != nil {
		return desc, err
	}
	defer w.Close()
	if _, err := w.Write(blob); err != nil {
		return desc, err
	}
	if err := w.Commit(ctx, desc.Size, desc.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, err
	}
	return desc, nil
}

// namedImage is an image whose blobs are in the content store.
type namedImage struct {
	name   string
	target ocispec.Descriptor
	built  bool
}

// place unpacks an image's layers, checks that it is complete, and gives it
// its three names. It returns the digest of the image's configuration.
func (st *store) place(ctx context.Context, img namedImage) (digest.Digest, error) {
	matcher := platforms.Only(st.platform)
	if err := st.unpack(ctx, img.target, matcher); err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	_, _, _, missing, err := images.Check(ctx, st.content, img.target, matcher)
	if err != nil {
		return "", err
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("blob %s (%s) is missing", missing[0].Digest, missing[0].MediaType)
	}
	config, err := images.Config(ctx, st.content, img.target, matcher)
	if err != nil {
		return "", err
	}
	named, err := tagged(img.name)
	if err != nil {
		return "", err
	}
	for _, name := range []string{named.String(), named.Name() + "@" + img.target.Digest.String(), config.Digest.String()} {
		if err := st.name(ctx, name, img.target); err != nil {
			return "", fmt.Errorf("record as %s: %w", name, err)
		}
	}
	return config.Digest, nil
}

// name makes name point at target, whatever it pointed at before: two images
// may share a configuration, and CRI lets the last one win too.
func (st *store) name(ctx context.Context, name string, target ocispec.Descriptor) error {
	// The annotations of an index entry are the archive's, not the image's.
	target.Annotations = nil
	record := images.Image{Name: name, Target: target, Labels: maps.Clone(imageLabels)}
	_, err := st.images.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = st.images.Update(ctx, record)
	}
	return err
}

// unpack walks an image as a pull does, with the daemon's own unpacker: labels
// for the garbage collector on every blob, a snapshot for every layer. Layers
// go one after the other, so that snapshots get the same numbers every time.
func (st *store) unpack(ctx context.Context, target ocispec.Descriptor, matcher platforms.MatchComparer) error {
	unpacker, err := unpack.NewUnpacker(ctx, st.content, unpack.WithUnpackPlatform(unpack.Platform{
		Platform:       matcher,
		SnapshotterKey: snapshotter,
		Snapshotter:    st.db.Snapshotter(snapshotter),
		Applier:        applier{provider: st.content, epoch: st.epoch},
	}))
	if err != nil {
		return err
	}
	handler := images.ChildrenHandler(st.content)
	handler = images.FilterPlatforms(handler, matcher)
	handler = images.LimitManifests(handler, matcher, 1)
	handler = images.SetChildrenMappedLabels(st.content, handler, nil)
	err = images.Dispatch(ctx, unpacker.Unpack(handler), nil, target)
	result, waitErr := unpacker.Wait()
	if err := errors.Join(err, waitErr); err != nil {
		return err
	}
	if result.Unpacks == 0 {
		return fmt.Errorf("there is no image for %s in it", platforms.Format(st.platform))
	}
	return nil
}
