package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/store/blob"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// About is what is known of a disk besides its content.
type About struct {
	// Image is the NodeImage's name.
	Image          string `json:"image"`
	Infrastructure string `json:"infrastructure"`
	Architecture   string `json:"architecture"` // amd64
	Distro         string `json:"distro"`       // debian
	DistroVersion  string `json:"distroVersion"`
	Kubernetes     string `json:"kubernetes"` // v1.34.0
	Lock           string `json:"lock"`       // digest of the lock that it was built from
	Nodesmith      string `json:"nodesmith"`  // version of the program that built it
	// Firmware is what the disk boots on: bios, uefi.
	Firmware []string `json:"firmware,omitempty"`
	// Built is the time that the image carries, its lock's epoch.
	Built time.Time `json:"built"`
	// Formats are the files that are made of the disk when nobody says otherwise:
	// first the one that the infrastructure imports.
	Formats []Format `json:"formats"`
}

// Format is a file to be made of a disk.
type Format struct {
	Name string `json:"name"` // ova
	// Options are its writer's.
	Options json.RawMessage `json:"options,omitempty"`
}

// config is a disk's configuration blob.
type config struct {
	About
	// Size and ChunkSize are in bytes.
	Size      int64         `json:"size"`
	ChunkSize int64         `json:"chunkSize"`
	Digest    digest.Digest `json:"digest"`
	// Chunks are those of the manifest's layers, in their order.
	Chunks []chunkConfig `json:"chunks"`
}

type chunkConfig struct {
	Index int64  `json:"index"`
	Sum   string `json:"sha256"` // of the chunk itself, in hexadecimal digits
}

// Disk is one disk of an image.
type Disk struct {
	About
	// From is the image that it belongs to.
	From Image
	// Manifest describes the disk's OCI manifest.
	Manifest ocispecs.Descriptor
	Table    chunked.Table
	// Digest identifies the disk's content everywhere.
	Digest digest.Digest

	store *Store
}

// Reference is what to call the disk: NAME:TAG, with the infrastructure.
func (d *Disk) Reference() string { return d.From.Reference() + " (" + d.Infrastructure + ")" }

// contents reads an image's own index.
func (s *Store) contents(i Image) (ocispecs.Index, error) {
	var index ocispecs.Index
	if err := s.readJSON(i.descriptor(), maxManifest, &index); err != nil {
		return index, fmt.Errorf("%s: %w", i.Reference(), err)
	}
	return index, nil
}

// Disks returns an image's disks, in the order of its infrastructures. Those of
// an image that was pulled in part are left out.
func (s *Store) Disks(_ context.Context, i Image) ([]*Disk, error) {
	index, err := s.contents(i)
	if err != nil {
		return nil, err
	}
	var disks []*Disk
	for _, m := range index.Manifests {
		if m.ArtifactType != DiskType || !s.blobs.Has(m) {
			continue
		}
		disk, err := s.disk(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.Reference(), err)
		}
		disk.From = i
		disks = append(disks, disk)
	}
	return disks, nil
}

// Disk returns the image's disk for an infrastructure; "" is enough where there
// is one alone.
func (s *Store) Disk(ctx context.Context, i Image, infrastructure string) (*Disk, error) {
	disks, err := s.Disks(ctx, i)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range disks {
		if d.Infrastructure == infrastructure || infrastructure == "" && len(disks) == 1 {
			return d, nil
		}
		names = append(names, d.Infrastructure)
	}
	switch {
	case len(disks) == 0:
		return nil, fault.New(fault.Unverifiable, "build or pull it again", "%s: none of its disks is in the store", i.Reference())
	case infrastructure == "":
		return nil, fault.New(fault.Usage, "say which with --infrastructure", "%s has disks for %s", i.Reference(), strings.Join(names, ", "))
	}
	return nil, fault.New(fault.Usage, "", "%s has no disk for %q, but for %s", i.Reference(), infrastructure, strings.Join(names, ", "))
}

// disk reads a disk's manifest and configuration.
func (s *Store) disk(m ocispecs.Descriptor) (*Disk, error) {
	var manifest ocispecs.Manifest
	if err := s.readJSON(m, maxManifest, &manifest); err != nil {
		return nil, err
	}
	var c config
	if err := s.readJSON(manifest.Config, maxManifest, &c); err != nil {
		return nil, err
	}
	table := chunked.Table{Size: c.Size, ChunkSize: c.ChunkSize, Chunks: make([]chunked.Chunk, len(c.Chunks))}
	if len(c.Chunks) != len(manifest.Layers) {
		return nil, fault.New(fault.Unverifiable, "", "disk %s: %d chunks and %d layers: %w", m.Digest, len(c.Chunks), len(manifest.Layers), format.ErrCorrupt)
	}
	for i, layer := range manifest.Layers {
		table.Chunks[i] = chunked.Chunk{
			Index: c.Chunks[i].Index, Sum: digest.NewDigestFromEncoded(digest.SHA256, c.Chunks[i].Sum),
			Blob: layer.Digest, Size: layer.Size,
		}
	}
	err := table.Check()
	if err == nil && table.Digest() != c.Digest {
		err = fmt.Errorf("its chunks make %s, not %s: %w", table.Digest(), c.Digest, format.ErrCorrupt)
	}
	if err != nil {
		return nil, fault.New(fault.Unverifiable, "", "disk %s: %w", m.Digest, err)
	}
	return &Disk{About: c.About, Manifest: m, Table: table, Digest: c.Digest, store: s}, nil
}

// Content is a disk that is open to be read; its blobs stay until Close.
type Content struct {
	*chunked.Disk
	session *Session
}

// Open opens the disk.
func (d *Disk) Open(ctx context.Context) (*Content, error) {
	session, err := d.store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	disk, err := chunked.Open(d.store.blobs, d.Table)
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return &Content{disk, session}, nil
}

// ReadAt follows io.ReaderAt.
func (c *Content) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.Disk.ReadAt(p, offset)
	if errors.Is(err, blob.ErrDamaged) {
		err = damaged(err)
	}
	return n, err
}

// Close ends the use of the disk.
func (c *Content) Close() error { return errors.Join(c.Disk.Close(), c.session.Close()) }

// Whole reports whether everything that the disk is made of is in the store.
func (d *Disk) Whole() bool { return d.Table.Whole(d.store.blobs) }

// NewDisk is a disk that is put into the store.
type NewDisk struct {
	About
	Table chunked.Table
	// Contents is the document that says what went in (internal/manifest).
	Contents []byte
}

// put writes the manifests of a disk and of its document.
func (s *Store) put(d NewDisk) ([]ocispecs.Descriptor, error) {
	c := config{About: d.About, Size: d.Table.Size, ChunkSize: d.Table.ChunkSize, Digest: d.Table.Digest(), Chunks: make([]chunkConfig, len(d.Table.Chunks))}
	for i, chunk := range d.Table.Chunks {
		c.Chunks[i] = chunkConfig{chunk.Index, chunk.Sum.Encoded()}
	}
	described, err := s.writeJSON(DiskConfigType, c)
	if err != nil {
		return nil, err
	}
	disk, err := s.writeJSON(ocispecs.MediaTypeImageManifest, ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, ArtifactType: DiskType,
		Config: described, Layers: d.Table.Layers(),
	})
	if err != nil {
		return nil, err
	}
	disk.ArtifactType = DiskType
	disk.Platform = &ocispecs.Platform{OS: "linux", Architecture: d.Architecture}
	disk.Annotations = map[string]string{infrastructureAnnotation: d.Infrastructure}
	document, err := s.attach(document{
		artifactType: ManifestType, data: d.Contents, title: d.Image + "-" + d.Infrastructure + ".manifest.json", subject: &disk,
	})
	if err != nil {
		return nil, err
	}
	document.Annotations = disk.Annotations
	return []ocispecs.Descriptor{disk, document}, nil
}

// Known returns the chunks of the images of that name: what a disk that is built
// anew most likely has, too. The limit keeps the time bounded.
func (s *Store) Known(ctx context.Context, name string) (chunked.Known, error) {
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	images = slices.DeleteFunc(images, func(i Image) bool { return i.Name != name })
	known := chunked.Known{}
	for _, i := range images[:min(len(images), knownImages)] {
		disks, err := s.Disks(ctx, i)
		if err != nil {
			continue // what is damaged is known by nobody
		}
		for _, d := range disks {
			known.Add(d.Table)
		}
	}
	return known, nil
}

// knownImages is how many images of a name Known reads.
const knownImages = 4
