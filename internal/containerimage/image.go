//go:build linux

package containerimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// builtLayer is a layer in the content store.
type builtLayer struct {
	descriptor ocispec.Descriptor
	diffID     digest.Digest // of the tar stream
	size       int64         // of the tar stream, bytes
}

// buildLayer collects a layer's files and streams them, compressed, into the
// content store.
func (st *store) buildLayer(ctx context.Context, l Layer) (_ builtLayer, err error) {
	fsys, err := collect(l)
	if err != nil {
		return builtLayer{}, err
	}
	w, err := content.OpenWriter(ctx, st.content, content.WithRef("layer-"+l.Name))
	if err != nil {
		return builtLayer{}, err
	}
	defer w.Close()
	frames, err := newFrameWriter(w)
	if err != nil {
		return builtLayer{}, err
	}
	digester := digest.Canonical.Digester()
	counter := &countingWriter{w: io.MultiWriter(digester.Hash(), frames)}
	if err := fsys.writeTar(ctx, counter, st.epoch); err != nil {
		return builtLayer{}, errors.Join(err, frames.Abort())
	}
	if err := frames.Close(); err != nil {
		return builtLayer{}, err
	}
	status, err := w.Status()
	if err != nil {
		return builtLayer{}, err
	}
	built := builtLayer{
		descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: w.Digest(), Size: status.Offset},
		diffID:     digester.Digest(),
		size:       counter.n,
	}
	if err := w.Commit(ctx, built.descriptor.Size, built.descriptor.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return builtLayer{}, err
	}
	return built, nil
}

// buildImage writes an image's configuration and manifest.
func (st *store) buildImage(ctx context.Context, img Image, layers map[string]builtLayer) (ocispec.Descriptor, error) {
	config := ocispec.Image{
		Created:  &st.epoch,
		Platform: st.platform,
		Config: ocispec.ImageConfig{
			User:       img.User,
			Env:        img.Env,
			Entrypoint: img.Entrypoint,
			Cmd:        img.Cmd,
			WorkingDir: img.WorkingDir,
			Labels:     img.Labels,
		},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
	}
	for _, name := range img.Layers {
		layer := layers[name]
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.diffID)
		config.History = append(config.History, ocispec.History{Created: &st.epoch, CreatedBy: "nodesmith: layer " + name})
		manifest.Layers = append(manifest.Layers, layer.descriptor)
	}
	var err error
	if manifest.Config, err = st.writeJSON(ctx, ocispec.MediaTypeImageConfig, config); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write configuration: %w", err)
	}
	desc, err := st.writeJSON(ctx, manifest.MediaType, manifest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write manifest: %w", err)
	}
	return desc, nil
}

// writeJSON stores a document. encoding/json sorts maps, so that equal
// documents are equal bytes.
func (st *store) writeJSON(ctx context.Context, mediaType string, document any) (ocispec.Descriptor, error) {
	blob, err := json.Marshal(document)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return st.write(ctx, mediaType, blob)
}
