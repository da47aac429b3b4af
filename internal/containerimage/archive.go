//go:build linux

package containerimage

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
)

// importArchive brings an archive's blobs into the content store and returns
// the images that it names. Blobs that none of them needs are removed when the
// store is sealed.
func (st *store) importArchive(ctx context.Context, a Archive) ([]namedImage, error) {
	stream, err := openArchive(a.Path)
	if err != nil {
		return nil, err
	}
	desc, err := archive.ImportIndex(ctx, st.content, stream)
	if err := errors.Join(err, stream.Close()); err != nil {
		return nil, fault.New(fault.BadSpec, "write the archive with `docker save`, `ctr image export` or `skopeo copy`",
			"read as an image archive: %w", err)
	}
	blob, err := content.ReadBlob(ctx, st.content, desc)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(blob, &index); err != nil {
		return nil, fault.New(fault.BadSpec, "", "index of the archive: %w", err)
	}
	return nameImages(a, index.Manifests)
}

// nameImages decides which of an archive's top-level manifests are images, and
// what they are called.
func nameImages(a Archive, manifests []ocispec.Descriptor) ([]namedImage, error) {
	var found []namedImage
	for _, m := range manifests {
		if m.Annotations[images.AnnotationManifestSubject] != "" {
			continue // a signature or attestation of another one
		}
		name := m.Annotations[images.AnnotationImageName]
		if name == "" {
			name = m.Annotations[ocispec.AnnotationRefName]
		}
		found = append(found, namedImage{name: name, target: m})
	}
	if a.Name != "" || a.Digest != "" {
		if len(found) != 1 {
			return nil, fault.New(fault.BadSpec, "leave name and digest out, or give an archive of one image",
				"name and digest are for one image, and the archive holds %d", len(found))
		}
		if a.Digest != "" && found[0].target.Digest.String() != a.Digest {
			return nil, fault.New(fault.Unverifiable, "set the digest to the new one if the change is wanted",
				"the archive's image is %s, not %s", found[0].target.Digest, a.Digest)
		}
	}
	if a.Name != "" {
		found[0].name = a.Name
	}
	if len(found) == 0 {
		return nil, fault.New(fault.BadSpec, "", "there is no image in the archive")
	}
	for _, f := range found {
		if _, err := tagged(f.name); err != nil {
			return nil, fault.New(fault.BadSpec, "give the archive a name in the spec",
				"the archive calls an image %q: %w", f.name, err)
		}
	}
	return found, nil
}

// openArchive opens a tar, compressed or not, or an OCI layout directory as if
// it were one.
func openArchive(name string) (io.ReadCloser, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return layoutStream(name), nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	stream, err := compression.DecompressStream(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("decompress: %w", err), file.Close())
	}
	return readCloser{stream, func() error { return errors.Join(stream.Close(), file.Close()) }}, nil
}

// readCloser is a reader with a function that closes what is behind it.
type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// layoutStream turns an OCI layout directory (OCI image specification,
// image-layout.md) into the tar that holds the same. os.Root keeps symbolic
// links in it from leading out of the directory.
func layoutStream(dir string) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeLayout(writer, dir)) }()
	return reader
}

// writeLayout writes the files of an OCI layout as a tar.
func writeLayout(w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	blobs, err := filepath.Glob(filepath.Join(dir, ocispec.ImageBlobsDir, "*", "*"))
	if err != nil {
		return err
	}
	names := []string{ocispec.ImageLayoutFile, ocispec.ImageIndexFile}
	for _, b := range blobs {
		rel, err := filepath.Rel(dir, b)
		if err != nil {
			return err
		}
		names = append(names, rel)
	}
	tw := tar.NewWriter(w)
	for _, name := range names {
		if err := writeLayoutFile(tw, root, name); err != nil {
			return err
		}
	}
	return tw.Close()
}

// writeLayoutFile writes one file of an OCI layout.
func writeLayoutFile(tw *tar.Writer, root *os.Root, name string) error {
	file, err := root.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Size: info.Size(), Mode: 0o444}); err != nil {
		return err
	}
	_, err = io.Copy(tw, file)
	return err
}
