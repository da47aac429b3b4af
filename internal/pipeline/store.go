package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/store"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// storing is a build's image on its way into the store.
type storing struct {
	store   *store.Store
	build   store.Build
	earlier []store.Image  // of that name
	opening sync.Mutex     // of session
	session *store.Session // nil until something is written
	writers []*chunked.Writer
}

// store opens the store for the image that is built from a lock.
func (p *Pipeline) store(image *v1alpha1.NodeImage, l *lock.Lock) (*storing, error) {
	s, err := store.Open(p.options.Settings.StoreDir)
	if err != nil {
		return nil, err
	}
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	b := store.Build{Name: image.Metadata.Name, Origins: map[string]string{}, Stored: p.options.Settings.Now}
	if b.Lock, err = l.Marshal(); err != nil {
		return nil, err
	}
	if b.Spec, err = yaml.Marshal(image); err != nil {
		return nil, fmt.Errorf("the spec for the store: %w", err)
	}
	into := &storing{store: s, build: b, earlier: slices.DeleteFunc(images, func(i store.Image) bool { return i.Name != b.Name })}
	p.lockBytes = int64(len(b.Lock))
	into.build.Tag = store.Short(into.lockDigest())
	return into, nil
}

// lockDigest is the digest of the text of the lock that is built from.
func (s *storing) lockDigest() digest.Digest { return digest.FromBytes(s.build.Lock) }

// Close ends what the build had in hand.
func (s *storing) Close() error {
	for _, w := range s.writers {
		w.Close()
	}
	if s.session == nil {
		return nil
	}
	return s.session.Close()
}

// begin keeps the store's blobs from being removed, from now on.
func (s *storing) begin(ctx context.Context) (err error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.session == nil {
		s.session, err = s.store.Begin(ctx)
	}
	return err
}

// find notes a disk's origin and returns the disk as stored does.
func (s *storing) find(ctx context.Context, infrastructure string, of origin) (*store.Disk, error) {
	s.build.Origins[infrastructure] = string(of)
	return s.stored(ctx, infrastructure, of)
}

// stored returns the disk of that origin if an earlier build put it into the store,
// and it is whole; else nil.
func (s *storing) stored(ctx context.Context, infrastructure string, of origin) (*store.Disk, error) {
	for _, i := range s.earlier {
		if i.Origins[infrastructure] != string(of) {
			continue
		}
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
		disk, err := s.store.Disk(ctx, i, infrastructure)
		if err == nil && disk.Whole() {
			return disk, nil
		}
	}
	return nil, nil
}

// manifest returns what this very program wrote of a disk of that origin when it
// put it into the store; nil if it did not. Then no step has to tell it again.
func (s *storing) manifest(ctx context.Context, n nodeInputs, of origin) (*manifest.Manifest, error) {
	for _, i := range s.earlier {
		if i.Origins[n.infrastructure.Name] != string(of) {
			continue
		}
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
		document, ok, err := s.store.Document(ctx, i, store.ManifestType, n.infrastructure.Name)
		if err != nil || !ok {
			continue // damaged: it is made anew
		}
		data, err := document.Read()
		if err != nil {
			continue
		}
		m, err := manifest.Parse(document.Title, data)
		if err == nil && m.Nodesmith == n.version && m.Lock == n.digest {
			return m, nil
		}
	}
	return nil, nil
}

// storeTarget is what the store is called among the files that are written.
const storeTarget = "the store"

// sink returns a target that puts a disk of size bytes into the store.
func (s *storing) sink(ctx context.Context, size int64) (format.Target, *chunked.Writer, error) {
	if err := s.begin(ctx); err != nil {
		return format.Target{}, nil, err
	}
	known, err := s.store.Known(ctx, s.build.Name)
	if err != nil {
		return format.Target{}, nil, err
	}
	w, err := s.session.Writer(ctx, size, known)
	if err != nil {
		return format.Target{}, nil, err
	}
	s.writers = append(s.writers, w)
	return format.Target{Path: storeTarget, Sink: w}, w, nil
}

// add takes a disk that is in the store now.
func (s *storing) add(d infrastructureDisk, files []imageFile, table chunked.Table, dir string) error {
	n := d.node
	about := store.About{
		Image: s.build.Name, Infrastructure: d.infrastructure.Name, Architecture: n.lock.Architecture,
		Distro: n.release.Distro, DistroVersion: n.release.Version, Kubernetes: n.lock.Kubernetes.Version,
		Lock: n.digest, Nodesmith: n.version, Firmware: n.image.Spec.Disk.Firmware, Built: n.lock.Epoch.UTC(),
	}
	for _, f := range files {
		about.Formats = append(about.Formats, store.Format{Name: f.format.Name, Options: f.options})
	}
	contents, err := os.ReadFile(filepath.Join(dir, stemOf(n.image, d.infrastructure.Name)+manifest.Suffix))
	if err != nil {
		return err
	}
	s.build.Disks = append(s.build.Disks, store.NewDisk{About: about, Table: table, Contents: contents})
	return nil
}

// commit puts the image into the store, unless it is there, and returns it.
func (p *Pipeline) commit(ctx context.Context, s *storing) (_ store.Image, err error) {
	s.build.Key = s.key()
	for _, i := range s.earlier {
		if i.Key == s.build.Key && slices.Contains(i.Tags, s.build.Tag) && slices.Contains(i.Tags, store.Latest) {
			return i, nil // its disks were found, whole
		}
	}
	work := p.record.Begin(tree.StageFormats, fmt.Sprintf("name %s:%s in the store", s.build.Name, s.build.Tag))
	defer func() { work.End(err) }()
	if err := s.begin(ctx); err != nil {
		return store.Image{}, err
	}
	return s.session.Commit(ctx, s.build)
}

// key follows everything that the image in the store consists of.
func (s *storing) key() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%s\n", digest.FromBytes(s.build.Lock), digest.FromBytes(s.build.Spec))
	for _, infrastructure := range slices.Sorted(maps.Keys(s.build.Origins)) {
		fmt.Fprintf(&text, "%s %s\n", infrastructure, s.build.Origins[infrastructure])
	}
	for _, d := range s.build.Disks {
		about, _ := json.Marshal(d.About) // has nothing that can't be marshalled
		fmt.Fprintf(&text, "%s %s %s\n", about, d.Table.Digest(), digest.FromBytes(d.Contents))
	}
	return digest.FromString(text.String()).String()
}
