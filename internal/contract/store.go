package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/contract/boltread"
)

// Where containerd keeps images below its root, as plugins TYPE.ID
// (containerd, plugins/types.go).
const (
	containerdRoot = "/var/lib/containerd"
	metaDB         = containerdRoot + "/io.containerd.metadata.v1.bolt/meta.db"
	blobsDir       = containerdRoot + "/io.containerd.content.v1.content/blobs"
	overlayDir     = containerdRoot + "/io.containerd.snapshotter.v1.overlayfs"
	criNamespace   = "k8s.io"
	overlay        = "overlayfs"

	// maxDocument bounds a manifest or a configuration, as containerd does.
	maxDocument = 8 << 20
	maxDatabase = 256 << 20
)

// store is what containerd's metadata says is in its store, for the namespace
// that CRI uses. The layout of the buckets is that of containerd's
// core/metadata/buckets.go.
type store struct {
	images    map[string]imageRecord
	snapshots map[string]string // chain ID to the snapshotter's own key
	overlay   map[string]uint64 // the snapshotter's key to its directory
}

// imageRecord is a name and what it points at.
type imageRecord struct {
	target ocispec.Descriptor
	labels map[string]string
}

func (n *node) database(name string) (*boltread.DB, error) {
	content, err := n.tree.Content(name)
	if err != nil {
		return nil, err
	}
	if content.Size() > maxDatabase {
		return nil, fmt.Errorf("%s has %d bytes", name, content.Size())
	}
	db, err := boltread.Open(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return db, nil
}

// readStore reads containerd's metadata.
func (n *node) readStore() (*store, error) {
	db, err := n.database(metaDB)
	if err != nil {
		return nil, err
	}
	namespace, err := db.Root().Bucket("v1", criNamespace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", metaDB, err)
	}
	s := &store{images: map[string]imageRecord{}, snapshots: map[string]string{}, overlay: map[string]uint64{}}
	if err := s.readImages(namespace); err != nil {
		return nil, fmt.Errorf("%s: images: %w", metaDB, err)
	}
	// Snapshots are an image's comfort, not its content: what is wrong with
	// them, images.unpacked finds by their absence.
	if b, err := namespace.Bucket("snapshots", overlay); err == nil {
		err = b.Each(func(key, _ []byte, nested *boltread.Bucket) error {
			if nested == nil {
				return nil
			}
			values, err := nested.Values()
			s.snapshots[string(key)] = string(values["name"])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: snapshots: %w", metaDB, err)
		}
	}
	s.readOverlay(n)
	return s, nil
}

func (s *store) readImages(namespace boltread.Bucket) error {
	all, err := namespace.Bucket("images")
	if err != nil {
		return err
	}
	return all.Each(func(key, _ []byte, nested *boltread.Bucket) error {
		if nested == nil {
			return nil
		}
		record := imageRecord{labels: map[string]string{}}
		target, err := nested.Bucket("target")
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		values, err := target.Values()
		if err != nil {
			return err
		}
		size, _ := binary.Varint(values["size"])
		record.target = ocispec.Descriptor{MediaType: string(values["mediatype"]), Digest: digest.Digest(values["digest"]), Size: size}
		if labels, err := nested.Bucket("labels"); err == nil {
			values, err := labels.Values()
			if err != nil {
				return err
			}
			for k, v := range values {
				record.labels[k] = string(v)
			}
		}
		s.images[string(key)] = record
		return nil
	})
}

// readOverlay reads which directory holds which snapshot (containerd,
// core/snapshots/storage/bolt.go).
func (s *store) readOverlay(n *node) {
	db, err := n.database(path.Join(overlayDir, "metadata.db"))
	if err != nil {
		return
	}
	all, err := db.Root().Bucket("v1", "snapshots")
	if err != nil {
		return
	}
	_ = all.Each(func(key, _ []byte, nested *boltread.Bucket) error { // what is missing is missed later
		if nested == nil {
			return nil
		}
		values, err := nested.Values()
		if id, length := binary.Uvarint(values["id"]); length > 0 {
			s.overlay[string(key)] = id
		}
		return err
	})
}

// blobPath is where a blob lies.
func blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", d, err)
	}
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// document reads a manifest, an index or a configuration, and decodes it.
func (n *node) document(d ocispec.Descriptor, into any) error {
	name, err := blobPath(d.Digest)
	if err != nil {
		return err
	}
	content, err := n.tree.Content(name)
	if err != nil {
		return err
	}
	if content.Size() > maxDocument {
		return fmt.Errorf("%s has %d bytes", name, content.Size())
	}
	b := make([]byte, content.Size())
	if _, err := io.ReadFull(content, b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// contents is what an image is made of.
type contents struct {
	blobs  []ocispec.Descriptor // manifest, configuration and layers
	config ocispec.Image
}

// isIndex recognises OCI's and Docker's lists of manifests.
func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// resolve follows an image's target to the manifest for the architecture.
func (n *node) resolve(target ocispec.Descriptor) (contents, error) {
	var c contents
	for depth := 0; isIndex(target.MediaType); depth++ {
		var index ocispec.Index
		if err := n.document(target, &index); err != nil {
			return c, err
		}
		c.blobs = append(c.blobs, target)
		found := false
		for _, m := range index.Manifests {
			if m.Platform == nil || m.Platform.OS == "linux" && m.Platform.Architecture == n.architecture {
				target, found = m, true
				break
			}
		}
		if !found || depth > 3 {
			return c, fmt.Errorf("%s has no manifest for linux/%s", target.Digest, n.architecture)
		}
	}
	var manifest ocispec.Manifest
	if err := n.document(target, &manifest); err != nil {
		return c, err
	}
	if len(manifest.Layers) == 0 {
		return c, fmt.Errorf("%s has no layers", target.Digest)
	}
	c.blobs = append(append(c.blobs, target, manifest.Config), manifest.Layers...)
	return c, n.document(manifest.Config, &c.config)
}

// digester verifies blobs, each once, several at a time.
type digester struct {
	group *errgroup.Group
	ctx   context.Context
	mu    sync.Mutex
	seen  map[digest.Digest]int64
	bad   []string
	bytes int64
}

// errDigest is the problem of a blob that was changed.
var errDigest = errors.New("its content does not have that digest")

// verify adds one blob. Its size and digest have to be those of the descriptor.
func (d *digester) verify(n *node, blob ocispec.Descriptor) error {
	name, err := blobPath(blob.Digest)
	if err != nil {
		return err
	}
	content, err := n.tree.Content(name)
	if err != nil {
		return err
	}
	if content.Size() != blob.Size {
		return fmt.Errorf("blob %s has %d bytes, not %d", blob.Digest, content.Size(), blob.Size)
	}
	if _, done := d.seen[blob.Digest]; done {
		return nil
	}
	d.seen[blob.Digest] = blob.Size
	d.bytes += blob.Size
	d.group.Go(func() error {
		if err := sum(d.ctx, content, blob.Digest); err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.bad = append(d.bad, fmt.Sprintf("blob %s: %v", blob.Digest, err))
		}
		return nil
	})
	return nil
}

// sum reads everything and compares the digest.
func sum(ctx context.Context, r io.Reader, want digest.Digest) error {
	if want.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%s is not verified", want.Algorithm())
	}
	const piece = 1 << 20
	h, buffer := sha256.New(), make([]byte, piece)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buffer)
		h.Write(buffer[:n])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if hex.EncodeToString(h.Sum(nil)) != want.Encoded() {
		return errDigest
	}
	return nil
}

// splitImage takes a reference apart at its tag: "registry.k8s.io/pause", "3.10".
func splitImage(reference string) (name, tag string) {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndex(reference, ":"); i > strings.LastIndex(reference, "/") {
		return reference[:i], reference[i+1:]
	}
	return reference, ""
}
