package peers

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/manifest"
)

// nodeImage is nodesmith's image of the example, as the user gets it.
type nodeImage struct {
	path, lock string
	size       int64 // of the disk, bytes
	manifest   *manifest.Manifest
	tree       *imagefs.Tree
}

// buildNode builds the example.
func buildNode(b *testing.B) *nodeImage {
	b.Helper()
	dir := b.TempDir()
	n := &nodeImage{path: nodesmith(b, "build", "-f", example, "-o", dir, "--progress", "plain")}
	n.lock = filepath.Join(dir, "debian-12.lock.yaml")
	var err error
	if n.manifest, err = manifest.Read(strings.TrimSuffix(n.path, filepath.Ext(n.path)) + manifest.Suffix); err != nil {
		b.Fatal(err)
	}
	file, err := known.OpenFile(n.path, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() }) // only read
	image, err := imagefs.Open(file, file.Size())
	if err != nil {
		b.Fatal(err)
	}
	if image.Tree == nil {
		b.Fatal(image.RootErr)
	}
	n.size, n.tree = file.Size(), image.Tree
	return n
}

// images are the names of the container images that it holds.
func (n *nodeImage) images() (names []string) {
	for _, image := range n.manifest.ContainerImages {
		names = append(names, image.Name)
	}
	return names
}

// software are the files and folders of a node that no package brings and that make
// it one. What nodesmith sets up besides (sshd, cloud-init's log) the plain system
// goes without.
var software = []string{
	"usr/bin/kubeadm", "usr/bin/kubelet", "usr/bin/kubectl",
	"usr/local/bin", "usr/local/sbin", "opt/cni/bin",
	"usr/lib/systemd/system/kubelet.service", "usr/lib/systemd/system/kubelet.service.d",
	"etc/systemd/system/containerd.service", "etc/systemd/system/containerd.service.d",
	"etc/hosts", "etc/default/kubelet", "etc/kubernetes", "etc/kubernetes-version", "etc/cni", "etc/containerd", "etc/crictl.yaml",
	"etc/modules-load.d/kubernetes.conf", "etc/sysctl.d/99-kubernetes.conf",
}

// packSoftware writes these files as a tar archive, uncompressed: the emulated
// processor of a guest is spared that.
func (n *nodeImage) packSoftware(file string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	archive := tar.NewWriter(out)
	for _, root := range software {
		err := fs.WalkDir(n.tree, root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return n.pack(archive, path, entry)
		})
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

// pack adds one file to an archive.
func (n *nodeImage) pack(archive *tar.Writer, path string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = n.tree.ReadLink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = path
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	content, err := n.tree.Content(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, content)
	return err
}

// blobs is where containerd has the content of its images.
const blobs = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"

// unpackImages writes the container images of the node's containerd into a new
// folder, as an OCI layout.
func (n *nodeImage) unpackImages(dir string) (layout.Path, error) {
	images, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	entries, err := n.tree.ReadDir(blobs)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		content, err := n.tree.Content(blobs + "/" + entry.Name())
		if err != nil {
			return "", err
		}
		hash := v1.Hash{Algorithm: "sha256", Hex: entry.Name()}
		if err := images.WriteBlob(hash, io.NopCloser(content)); err != nil {
			return "", err
		}
	}
	return images, nil
}

// push pushes an image of a layout, under its name, to a registry.
func push(b *testing.B, images layout.Path, image manifest.ContainerImage, to string) {
	b.Helper()
	hash, err := v1.NewHash(image.Digest)
	if err != nil {
		b.Fatal(err)
	}
	raw, err := images.Bytes(hash)
	if err != nil {
		b.Fatal(err)
	}
	described, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		b.Fatal(err)
	}
	if err := images.AppendDescriptor(v1.Descriptor{MediaType: described.MediaType, Digest: hash, Size: int64(len(raw))}); err != nil {
		b.Fatal(err)
	}
	content, err := images.Image(hash)
	if err != nil {
		b.Fatal(err)
	}
	asked, err := name.NewTag(image.Name)
	if err != nil {
		b.Fatal(err)
	}
	tag, err := name.NewTag(to + "/" + asked.RepositoryStr() + ":" + asked.TagStr())
	if err != nil {
		b.Fatal(err)
	}
	if err := remote.Write(tag, content, remote.WithContext(b.Context())); err != nil {
		b.Fatalf("push %s: %v", tag, err)
	}
}

// serve offers, on this host's loopback, what makes a plain system the same node, and
// returns the server's address: /software.tar, the packages of an archive at
// /archive, the node's container images as a registry.
func (n *nodeImage) serve(b *testing.B, archive string) string {
	b.Helper()
	dir := b.TempDir()
	if err := n.packSoftware(filepath.Join(dir, "software.tar")); err != nil {
		b.Fatalf("pack the node's software: %v", err)
	}
	images, err := n.unpackImages(filepath.Join(dir, "images"))
	if err != nil {
		b.Fatalf("unpack the node's container images: %v", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(filepath.Join(dir, "images", "blobs"))),
		registry.Logger(log.New(io.Discard, "", 0)),
	))
	mux.Handle("/archive/", http.StripPrefix("/archive/", http.FileServer(http.Dir(archive))))
	mux.HandleFunc("/software.tar", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(dir, "software.tar"))
	})
	server := httptest.NewServer(mux)
	b.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	for _, image := range n.manifest.ContainerImages {
		push(b, images, image, address)
	}
	return address
}
