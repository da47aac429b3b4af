//go:build linux

// Package containerimage assembles container images and writes them into a
// containerd store, so that a node starts its control plane without pulling.
//
// What comes in is a Config: which files make which layers, which layers make
// which images, and finished archives of images. What goes out is
// OUTPUT/var/lib/containerd as containerd 2.x's own daemon would have left it
// after pulling the same images, written by containerd's own libraries without
// a daemon, without network and without a mount:
//
//	io.containerd.content.v1.content/blobs/sha256/HEX      manifests, configs, layers
//	io.containerd.metadata.v1.bolt/meta.db                 namespace k8s.io, see below
//	io.containerd.snapshotter.v1.overlayfs/metadata.db     snapshots by number
//	io.containerd.snapshotter.v1.overlayfs/snapshots/N/fs  unpacked layers
//
// In meta.db each image has the three names that containerd's CRI plugin gives
// to what it pulls (NAME:TAG, NAME@DIGEST and the config's digest alone),
// labelled as managed by CRI and as pinned, which keeps the kubelet's image
// garbage collector away. Labels on the blobs (containerd.io/gc.ref.*) lead
// from a manifest to its config and layers and from the config to its snapshot,
// which keeps containerd's collector away. There are no leases and no
// half-written ingests, and nothing that no image refers to.
//
// Deterministic: the same inputs give the same blobs, the same snapshots and
// the same databases byte for byte, on any machine with any number of cores;
// no time is newer than the epoch, except where an archive's own layers say
// so. Not resumable: a failed run's output is to be thrown away. Memory: 130 MiB
// on two cores, 360 MiB on eight or more, whatever the images' size (measured).
package containerimage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/pkg/epoch"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/whiteout"
)

// namespace is where containerd's CRI plugin keeps its images
// (constants.K8sContainerdNamespace in containerd/internal/cri/constants).
const namespace = "k8s.io"

// Assemble builds cfg's images and archives into the store below cfg.Output,
// in the order in which cfg names them. It needs root: it sets owners and file
// capabilities and makes device nodes. The time of all that it writes is
// timestamp, in whole seconds. report is called with a line of progress for
// each layer and image.
func Assemble(ctx context.Context, cfg Config, timestamp time.Time, report func(line string)) ([]Assembled, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	timestamp = timestamp.UTC().Truncate(time.Second)
	ctx = namespaces.WithNamespace(ctx, namespace)
	ctx = epoch.WithSourceDateEpoch(ctx, &timestamp)
	st, err := openStore(cfg.Output, cfg.Architecture, timestamp)
	if err != nil {
		return nil, err
	}
	done, err := st.fill(ctx, cfg, report)
	if err != nil {
		return nil, kind(errors.Join(err, st.close()))
	}
	if err := st.seal(ctx, cfg.Output); err != nil {
		return nil, kind(fmt.Errorf("finish store: %w", err))
	}
	if cfg.Whiteouts == "" {
		return done, nil
	}
	list, err := whiteout.Take(cfg.Output, timestamp)
	if err == nil {
		err = list.Write(cfg.Whiteouts)
	}
	if err != nil {
		return nil, kind(fmt.Errorf("set whiteouts aside: %w", err))
	}
	return done, nil
}

// kind gives a full file system its kind, wherever it showed first.
func kind(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fault.New(fault.NoSpace, "make room where the build keeps its state", "%w", err)
	}
	return err
}

// fill writes everything but the final form of databases and times.
func (st *store) fill(ctx context.Context, cfg Config, report func(string)) ([]Assembled, error) {
	layers := map[string]builtLayer{}
	for _, l := range cfg.Layers {
		built, err := st.buildLayer(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Name, err)
		}
		layers[l.Name] = built
		report(fmt.Sprintf("layer %s: %d bytes, %d compressed", l.Name, built.size, built.descriptor.Size))
	}
	var found, brought []namedImage
	for _, img := range cfg.Images {
		manifest, err := st.buildImage(ctx, img, layers)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Name, err)
		}
		found = append(found, namedImage{name: img.Name, target: manifest, built: true})
	}
	for _, a := range cfg.Archives {
		imported, err := st.importArchive(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("archive %s: %w", a.Path, err)
		}
		brought = append(brought, imported...)
	}
	found = slices.DeleteFunc(found, func(built namedImage) bool {
		return slices.ContainsFunc(brought, func(b namedImage) bool { return b.name == built.name })
	})
	found = append(found, brought...)
	var done []Assembled
	names := map[string]bool{}
	for _, n := range found {
		if names[n.name] {
			return nil, fault.New(fault.BadSpec, "", "image %s is there twice", n.name)
		}
		names[n.name] = true
		config, err := st.place(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", n.name, err)
		}
		done = append(done, Assembled{Name: n.name, Manifest: n.target, Config: config.String(), Built: n.built})
		report(fmt.Sprintf("image %s: %s", n.name, n.target.Digest))
	}
	return done, nil
}
