package store

import (
	"context"
	"fmt"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// document is one file that belongs to an image.
type document struct {
	artifactType string
	data         []byte
	title        string // its name as a file
	subject      *ocispecs.Descriptor
	annotations  map[string]string // of the manifest
}

// attach writes a document and its manifest (OCI image specification 1.1,
// "Guidelines for Artifact Usage"), and describes the manifest.
func (s *Store) attach(d document) (ocispecs.Descriptor, error) {
	layer, err := s.write(d.artifactType, d.data)
	if err != nil {
		return layer, err
	}
	layer.Annotations = map[string]string{ocispecs.AnnotationTitle: d.title}
	if _, err := s.blobs.Write(ocispecs.DescriptorEmptyJSON.Data); err != nil {
		return layer, err
	}
	empty := ocispecs.DescriptorEmptyJSON
	empty.Data = nil
	m := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, ArtifactType: d.artifactType,
		Config: empty, Layers: []ocispecs.Descriptor{layer}, Annotations: d.annotations,
	}
	if d.subject != nil {
		m.Subject = &ocispecs.Descriptor{MediaType: d.subject.MediaType, Digest: d.subject.Digest, Size: d.subject.Size}
	}
	described, err := s.writeJSON(ocispecs.MediaTypeImageManifest, m)
	described.ArtifactType = d.artifactType
	return described, err
}

// Document is a file that belongs to an image.
type Document struct {
	// Type is LockType, SpecType, ManifestType or a report's.
	Type string
	// Infrastructure is that of the disk that it is about; "" for the image's own.
	Infrastructure string
	// Title is the document's name as a file.
	Title string
	// Size is in bytes.
	Size int64

	blob  ocispecs.Descriptor
	store *Store
}

// Read returns the document.
func (d Document) Read() ([]byte, error) {
	data, err := d.store.blobs.Read(d.blob, maxDocument)
	return data, damaged(err)
}

// Documents lists the documents of an image: the lock, the spec, and what went
// into each disk.
func (s *Store) Documents(_ context.Context, i Image) ([]Document, error) {
	index, err := s.contents(i)
	if err != nil {
		return nil, err
	}
	var documents []Document
	for _, m := range index.Manifests {
		if m.ArtifactType == DiskType || !s.blobs.Has(m) {
			continue
		}
		d, err := s.document(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.Reference(), err)
		}
		documents = append(documents, d)
	}
	return documents, nil
}

// Document returns one document of an image, of that type and infrastructure.
func (s *Store) Document(ctx context.Context, i Image, artifactType, infrastructure string) (Document, bool, error) {
	documents, err := s.Documents(ctx, i)
	if err != nil {
		return Document{}, false, err
	}
	for _, d := range documents {
		if d.Type == artifactType && d.Infrastructure == infrastructure {
			return d, true, nil
		}
	}
	return Document{}, false, nil
}

// document reads the manifest of a document.
func (s *Store) document(m ocispecs.Descriptor) (Document, error) {
	var manifest ocispecs.Manifest
	if err := s.readJSON(m, maxManifest, &manifest); err != nil {
		return Document{}, err
	}
	if len(manifest.Layers) != 1 {
		return Document{}, damaged(fmt.Errorf("document %s has %d layers, not one", m.Digest, len(manifest.Layers)))
	}
	layer := manifest.Layers[0]
	return Document{
		Type: m.ArtifactType, Infrastructure: m.Annotations[infrastructureAnnotation],
		Title: layer.Annotations[ocispecs.AnnotationTitle], Size: layer.Size, blob: layer, store: s,
	}, nil
}
