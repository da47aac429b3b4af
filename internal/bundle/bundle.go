// Package bundle hands files to the build engine by digest.
//
// What comes in is a list of files; what goes out is a graph state that holds
// them. A bundle is an OCI image with one uncompressed layer in a content store
// on the client's side: its digest is the cache key of every step that mounts
// it, and an engine, near or far, asks for the bytes only when it has to run
// such a step. The layer is deterministic: sorted names, no times, root's.
package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lru"
)

// StoreID is the name under which an engine's session serves Store.Blobs.
const StoreID = "nodesmith-inputs"

// Prefix begins the name of every step that reads a bundle.
const Prefix = "input: "

// host begins the references of bundles; nobody is asked for it.
const host = "nodesmith.local"

// format changes when the same files would make another layer.
const format = "nodesmith bundle 1"

// File is one file of a bundle: its content is Data, or that of the file at
// Path, on this machine or in FS.
type File struct {
	Name string // relative, slash-separated
	Mode os.FileMode
	Data []byte
	Path string
	FS   fs.FS
}

// Open returns the content and its size in bytes.
func (f File) Open() (io.ReadCloser, int64, error) {
	var file fs.File
	var err error
	switch {
	case f.Path == "":
		return io.NopCloser(bytes.NewReader(f.Data)), int64(len(f.Data)), nil
	case f.FS != nil:
		file, err = f.FS.Open(f.Path)
	default:
		file, err = os.Open(f.Path)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// Store holds bundles.
type Store struct {
	// Blobs is what an engine reads bundles from; each blob is verified before it
	// is read for the first time.
	Blobs content.Store
	blobs *verifiedStore
	index string

	mu   sync.Mutex
	used map[string]int64
}

// Used returns the bundles that were asked for since Open, by name, with their
// sizes in bytes.
func (s *Store) Used() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.used)
}

// Open opens the store in dir, which it makes if needed.
func Open(dir string) (*Store, error) {
	store, err := local.NewStore(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the input store: %w", err)
	}
	index := filepath.Join(dir, "index")
	if err := os.MkdirAll(index, 0o755); err != nil {
		return nil, fmt.Errorf("opening the input store: %w", err)
	}
	verified := &verifiedStore{Store: store}
	return &Store{Blobs: verified, blobs: verified, index: index, used: map[string]int64{}}, nil
}

// Content returns the bundle of files that are read here and now: small ones,
// or ones whose digest nobody knows.
func (s *Store) Content(ctx context.Context, name string, files ...File) (llb.State, error) {
	hash := sha256.New()
	for _, f := range files {
		content, size, err := f.Open()
		if err != nil {
			return llb.State{}, fmt.Errorf("input %q: %s: %w", name, f.Name, err)
		}
		fmt.Fprintf(hash, "%q %o %d\n", f.Name, f.Mode, size)
		_, err = io.Copy(hash, content)
		if err = errors.Join(err, content.Close()); err != nil {
			return llb.State{}, fmt.Errorf("input %q: %s: %w", name, f.Name, err)
		}
	}
	return s.Lazy(ctx, name, Source{Key: hex.EncodeToString(hash.Sum(nil)), Files: func() ([]File, error) { return files, nil }})
}

// Source is where the files of a bundle come from.
type Source struct {
	// Key decides their names, modes and content.
	Key string
	// Files fetches what of them this machine lacks.
	Files func() ([]File, error)
	// Missing lists what Files would fetch; nil for nothing.
	Missing func(context.Context) ([]Download, error)
}

// Lazy returns the bundle of a source's files, which are fetched only for a key
// that the store has not seen: what an engine has built already is not even
// downloaded. The name is what progress shows.
func (s *Store) Lazy(ctx context.Context, name string, source Source) (llb.State, error) {
	record := s.record(source.Key)
	manifest, size, err := s.recorded(ctx, record)
	if err == nil {
		lru.Touch(record)
	} else {
		files, err := source.Files()
		if err != nil {
			return llb.State{}, err
		}
		if manifest, size, err = s.write(ctx, files); err != nil {
			return llb.State{}, fmt.Errorf("input %q: %w", name, err)
		}
		if err := atomicfile.WriteFile(record, s.index, []byte(manifest), 0o644); err != nil {
			return llb.State{}, fmt.Errorf("input %q: %w", name, err)
		}
	}
	return s.use(name, manifest, size), nil
}

// record is the file that says which manifest a key has.
func (s *Store) record(key string) string {
	return filepath.Join(s.index, digest.FromString(format+"\n"+key).Encoded())
}

// use returns the bundle with that manifest.
func (s *Store) use(name string, manifest digest.Digest, size int64) llb.State {
	s.mu.Lock()
	s.used[name] = size
	s.mu.Unlock()
	return state("input", name, manifest)
}

// state is the input of a graph that holds a bundle.
func state(repository, name string, manifest digest.Digest) llb.State {
	return llb.OCILayout(host+"/"+repository+"@"+manifest.String(), llb.OCIStore("", StoreID), llb.WithCustomName(Prefix+name))
}

// recorded returns the manifest of a known key and its layer's size, if all of
// it is still there.
func (s *Store) recorded(ctx context.Context, record string) (_ digest.Digest, size int64, _ error) {
	text, err := os.ReadFile(record)
	if err != nil {
		return "", 0, err
	}
	manifest, err := digest.Parse(string(text))
	if err != nil {
		return "", 0, err
	}
	data, err := content.ReadBlob(ctx, s.Blobs, ocispecs.Descriptor{Digest: manifest})
	if err != nil {
		return "", 0, err
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return "", 0, err
	}
	for _, blob := range slices.Concat(m.Layers, []ocispecs.Descriptor{m.Config}) {
		if info, err := s.Blobs.Info(ctx, blob.Digest); err != nil || info.Size != blob.Size {
			return "", 0, fmt.Errorf("blob %s: %w", blob.Digest, errors.Join(err, errdefs.ErrNotFound))
		}
	}
	for _, layer := range m.Layers {
		size += layer.Size
	}
	return manifest, size, nil
}

func (s *Store) write(ctx context.Context, files []File) (_ digest.Digest, size int64, _ error) {
	layer, err := s.writeLayer(ctx, files)
	if err != nil {
		return "", 0, err
	}
	config, err := s.writeJSON(ctx, ocispecs.MediaTypeImageConfig, ocispecs.Image{
		Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	})
	if err != nil {
		return "", 0, err
	}
	manifest, err := s.writeJSON(ctx, ocispecs.MediaTypeImageManifest, ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Config:    config, Layers: []ocispecs.Descriptor{layer},
	})
	return manifest.Digest, layer.Size, err
}

func (s *Store) writeJSON(ctx context.Context, mediaType string, v any) (ocispecs.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	return s.writeBlob(ctx, mediaType, func(w io.Writer) error { _, err := w.Write(data); return err })
}

func (s *Store) writeLayer(ctx context.Context, files []File) (ocispecs.Descriptor, error) {
	files = append([]File{}, files...)
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	return s.writeBlob(ctx, ocispecs.MediaTypeImageLayer, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for i, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if i > 0 && f.Name == files[i-1].Name {
				return fmt.Errorf("two files are named %s", f.Name)
			}
			if err := addFile(archive, f); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		return archive.Close()
	})
}

func addFile(archive *tar.Writer, f File) (err error) {
	content, size, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: int64(f.Mode.Perm()), Size: size}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, content)
	return err
}

// writeBlob streams what write writes into the store and returns its descriptor.
// A blob that is there already is kept if it is whole.
func (s *Store) writeBlob(ctx context.Context, mediaType string, write func(io.Writer) error) (ocispecs.Descriptor, error) {
	desc, exists, err := s.tryBlob(ctx, mediaType, write)
	if err != nil || !exists {
		return desc, err
	}
	if whole, err := s.blobs.whole(ctx, desc.Digest); err != nil || whole {
		return desc, err
	}
	if err := s.Blobs.Delete(ctx, desc.Digest); err != nil {
		return desc, err
	}
	desc, _, err = s.tryBlob(ctx, mediaType, write)
	return desc, err
}

// tryBlob is writeBlob, but that it also says whether a blob of that digest was
// there, which then stays.
func (s *Store) tryBlob(ctx context.Context, mediaType string, write func(io.Writer) error) (_ ocispecs.Descriptor, exists bool, _ error) {
	reference := "write-" + rand.Text()
	w, err := content.OpenWriter(ctx, s.Blobs, content.WithRef(reference))
	if err != nil {
		return ocispecs.Descriptor{}, false, err
	}
	defer w.Close()
	counted := &counter{w: w}
	if err := write(counted); err != nil {
		_ = s.Blobs.Abort(context.WithoutCancel(ctx), reference)
		return ocispecs.Descriptor{}, false, fault.NoSpaceOr(err)
	}
	desc := ocispecs.Descriptor{MediaType: mediaType, Digest: w.Digest(), Size: counted.n}
	err = w.Commit(ctx, desc.Size, desc.Digest)
	if err == nil {
		s.blobs.wrote(desc.Digest)
		return desc, false, nil
	}
	_ = s.Blobs.Abort(context.WithoutCancel(ctx), reference)
	if errdefs.IsAlreadyExists(err) {
		return desc, true, nil
	}
	return ocispecs.Descriptor{}, false, fault.NoSpaceOr(err)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
