package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/lock"
)

// Artifact is one image file for one infrastructure.
type Artifact struct {
	Infrastructure string
	Architecture   string
	Format         string
	Path           string
	// SizeBytes is the disk's size, StoredBytes what the file takes up.
	SizeBytes, StoredBytes int64
}

// Build makes the image's file for each infrastructure from a lock and puts
// them into dir under their final names, each whole or not at all.
// buildContext is where the spec's files[].source are.
func (p *Pipeline) Build(ctx context.Context, image *v1alpha1.NodeImage, l *lock.Lock, buildContext fs.FS, dir string) ([]Artifact, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	disks, err := p.disks(ctx, image, l, buildContext)
	if err != nil {
		return nil, err
	}
	var artifacts []Artifact
	for _, d := range disks {
		path := filepath.Join(dir, fmt.Sprintf("%s-%s.%s", image.Metadata.Name, d.infrastructure.Name, d.infrastructure.Format))
		if err := p.export(ctx, d, path); err != nil {
			return nil, err
		}
		artifact := Artifact{
			Infrastructure: d.infrastructure.Name, Architecture: l.Architecture,
			Format: d.infrastructure.Format, Path: path,
		}
		if artifact.SizeBytes, artifact.StoredBytes, err = sizes(path); err != nil {
			return nil, err
		}
		artifacts = append(artifacts, artifact)
	}
	return artifacts, l.Write(filepath.Join(dir, LockName(image)))
}

// LockName returns the file name of an image's lock.
func LockName(image *v1alpha1.NodeImage) string { return image.Metadata.Name + ".lock.yaml" }

// infrastructureDisk is the graph of one disk.
type infrastructureDisk struct {
	infrastructure infra.Infrastructure
	state          llb.State
}

// disks composes the whole graph: what infrastructures share is the same state
// in each of their disks.
func (p *Pipeline) disks(ctx context.Context, image *v1alpha1.NodeImage, l *lock.Lock, buildContext fs.FS) ([]infrastructureDisk, error) {
	toolsRelease, release, err := releases(image)
	if err != nil {
		return nil, err
	}
	tools, err := p.builder.Tools(ctx, toolsRelease, l)
	if err != nil {
		return nil, err
	}
	system, err := p.builder.OS(ctx, toolsRelease, release, l)
	if err != nil {
		return nil, err
	}
	if system, err = p.builder.AddPackages(ctx, "packages", release, system, l.Packages, l); err != nil {
		return nil, err
	}
	kubernetes, err := p.builder.Kubernetes(ctx, toolsRelease, tools, l)
	if err != nil {
		return nil, err
	}
	digest, err := lockDigest(l)
	if err != nil {
		return nil, err
	}
	var disks []infrastructureDisk
	for _, name := range image.Spec.Infrastructures {
		infrastructure, known := infra.Find(name)
		locked, isLocked := l.Infrastructure(name)
		if !known || !isLocked {
			return nil, fault.New(fault.BadSpec, "run nodesmith lock", "no infrastructure %q in the lock", name)
		}
		system, err := p.builder.AddPackages(ctx, name+": packages", release, system, locked.Packages, l)
		if err != nil {
			return nil, err
		}
		node := nodeInputs{
			image: image, lock: l, digest: digest, release: release, infrastructure: infrastructure,
			identifiers: disk.IdentifiersFrom(digest + "/" + name), version: p.options.Version,
		}
		config, files, err := node.config(buildContext)
		if err != nil {
			return nil, err
		}
		root, err := p.builder.Node(ctx, system, kubernetes, config, files, l)
		if err != nil {
			return nil, err
		}
		state, err := p.builder.Disk(ctx, name+": assemble disk", release, tools, root, disk.Config{
			Size: size.Bytes(image.Spec.Disk.Size), Identifiers: node.identifiers,
		}, l)
		if err != nil {
			return nil, err
		}
		disks = append(disks, infrastructureDisk{infrastructure, state})
	}
	return disks, nil
}

// lockDigest returns the digest (sha256:...) of the lock's file.
func lockDigest(l *lock.Lock) (string, error) {
	data, err := l.Marshal()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// export copies the disk out of the engine, beside path and then to it, unless
// the file at path is that very disk already.
func (p *Pipeline) export(ctx context.Context, d infrastructureDisk, path string) (err error) {
	title := d.infrastructure.Name + ": build"
	origin, err := originOf(ctx, d.state)
	if err != nil {
		return err
	}
	if origin.holds(path) {
		return nil
	}
	temporary, err := os.MkdirTemp(filepath.Dir(path), ".nodesmith-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	absolute, err := filepath.Abs(temporary)
	if err != nil {
		return err
	}
	if err := p.engine.Export(ctx, title, d.state, absolute); err != nil {
		return err
	}
	file := filepath.Join(temporary, tree.DiskFile)
	if err := os.Chmod(file, 0o644); err != nil {
		return err
	}
	if err := os.Rename(file, path); err != nil {
		return err
	}
	return origin.mark(path)
}

// nodeInputs is what decides one node's configuration.
type nodeInputs struct {
	image          *v1alpha1.NodeImage
	lock           *lock.Lock
	digest         string
	release        distro.Release
	infrastructure infra.Infrastructure
	identifiers    disk.Identifiers
	version        string
}
