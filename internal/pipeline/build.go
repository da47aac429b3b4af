package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// Build makes the image's files for each infrastructure from a lock and puts
// them into dir under their final names, each whole or not at all.
// buildContext is where the spec's files[].source are.
// The image with its disks goes into the store in the same read.
func (p *Pipeline) Build(ctx context.Context, image *v1alpha1.NodeImage, l *lock.Lock, buildContext fs.FS, dir string) (_ []Artifact, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	into, err := p.store(image, l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	disks, err := p.disks(ctx, image, l, into.lockDigest(), buildContext)
	if err != nil {
		return nil, err
	}
	var artifacts []Artifact
	for i, d := range disks {
		files, err := p.writeBeside(ctx, image, d, disks[i+1:], buildContext, dir, into)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			artifact, err := f.artifact()
			if err != nil {
				return nil, err
			}
			artifact.Infrastructure, artifact.Architecture = d.infrastructure.Name, l.Architecture
			artifacts = append(artifacts, artifact)
		}
	}
	if err := p.exportCache(ctx, disks); err != nil {
		return nil, err
	}
	stored, err := p.commit(ctx, into)
	if err != nil {
		return nil, err
	}
	for i := range artifacts {
		artifacts[i].Image = stored.Reference()
	}
	return artifacts, lock.WriteText(filepath.Join(dir, LockName(image)), into.build.Lock)
}

// writeBeside is write while the steps of the next disk that has to be made run: the
// one writes, the others compute. Their failure is told when the files are there.
func (p *Pipeline) writeBeside(ctx context.Context, image *v1alpha1.NodeImage, d infrastructureDisk, next []infrastructureDisk, buildContext fs.FS, dir string, into *storing) ([]imageFile, error) {
	ahead, stop := context.WithCancel(ctx)
	defer stop()
	steps := make(chan error, 1)
	go func() { steps <- p.ahead(ahead, next, into) }()
	files, err := p.write(ctx, image, d, buildContext, dir, into)
	if err != nil {
		stop()
		<-steps
		return nil, err
	}
	return files, <-steps
}

// ahead runs the steps of the first of some disks that the store does not have.
func (p *Pipeline) ahead(ctx context.Context, disks []infrastructureDisk, into *storing) error {
	for _, d := range disks {
		stored, err := into.stored(ctx, d.infrastructure.Name, d.origin)
		if err != nil {
			return err
		}
		if stored == nil {
			return p.builder.Prepare(ctx, reading(d), d.disk)
		}
	}
	return nil
}

// write makes the files of a disk and puts it into the store. Its manifest is made
// meanwhile, and written when the files it is about are there.
func (p *Pipeline) write(ctx context.Context, image *v1alpha1.NodeImage, d infrastructureDisk, buildContext fs.FS, dir string, into *storing) ([]imageFile, error) {
	files, err := p.files(image, d, dir)
	if err != nil {
		return nil, err
	}
	var table chunked.Table
	var contents *manifest.Manifest
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		table, err = p.export(bothCtx, d, files, dir, into)
		return err
	})
	both.Go(func() (err error) {
		contents, err = p.manifestOf(bothCtx, d, buildContext, dir, into)
		return err
	})
	if err := both.Wait(); err != nil {
		return nil, err
	}
	if err := p.writeManifest(d, contents, dir); err != nil {
		return nil, err
	}
	return files, into.add(d, files, table, dir)
}

// exportCache sends the results of all steps to where the settings say.
func (p *Pipeline) exportCache(ctx context.Context, disks []infrastructureDisk) error {
	return p.engine.ExportCache(ctx, exportTitle, statesOf(disks)...)
}

const exportTitle = "export the cache"

func statesOf(disks []infrastructureDisk) []llb.State {
	var states []llb.State
	for _, d := range disks {
		states = append(states, d.disk.Map)
	}
	return states
}

// LockName returns the file name of an image's lock.
func LockName(image *v1alpha1.NodeImage) string { return image.Metadata.Name + ".lock.yaml" }

// infrastructureDisk is the graph of one disk.
type infrastructureDisk struct {
	infrastructure infra.Infrastructure
	node           nodeInputs
	kubernetes     tree.Kubernetes
	disk           tree.Disk
	origin         origin
}

// disks composes the whole graph: what infrastructures share is the same state
// in each of their disks. digest is that of the lock's text.
func (p *Pipeline) disks(ctx context.Context, image *v1alpha1.NodeImage, l *lock.Lock, digest digest.Digest, buildContext fs.FS) ([]infrastructureDisk, error) {
	from, err := sourcesOf(image, buildContext)
	if err != nil {
		return nil, err
	}
	toolsRelease, release := from.tools, from.target
	tools, err := p.builder.Tools(ctx, toolsRelease, l)
	if err != nil {
		return nil, err
	}
	compiler, err := p.builder.Compiler(ctx, toolsRelease, tools, l)
	if err != nil {
		return nil, err
	}
	system, err := p.builder.OS(ctx, toolsRelease, release, l)
	if err != nil {
		return nil, err
	}
	if system, err = p.scripts(ctx, image, v1alpha1.BeforePackages, system, l, osValues(image, release), buildContext); err != nil {
		return nil, err
	}
	if system, err = p.builder.AddPackages(ctx, "packages", release, system, l.Packages, l); err != nil {
		return nil, err
	}
	kubernetes, err := p.builder.Kubernetes(ctx, toolsRelease, compiler, archives(image.Spec.ContainerImages, buildContext), l)
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
		imported, err := formats.Named(infrastructure.Format)
		if err != nil {
			return nil, err
		}
		node := nodeInputs{
			image: image, lock: l, digest: digest.String(), release: release, repositories: from.kept, infrastructure: infrastructure,
			disk: diskConfig(image.Spec.Disk, size.Bytes(imported.SizeUnit), diskSeed(image, release, name)), version: p.options.Version,
		}
		root, err := p.node(ctx, node, p.builder.Merge(system, kubernetes), buildContext)
		if err != nil {
			return nil, err
		}
		assembled, err := p.builder.Disk(ctx, name+": assemble disk", release, tools, root, kubernetes, node.disk, l)
		if err != nil {
			return nil, err
		}
		origin, err := originOf(ctx, assembled.Map)
		if err != nil {
			return nil, err
		}
		disks = append(disks, infrastructureDisk{infrastructure, node, kubernetes, assembled, origin})
	}
	return disks, nil
}

// archives returns the container images that the build context brings.
func archives(images []v1alpha1.ContainerImage, buildContext fs.FS) []tree.ImageArchive {
	var local []tree.ImageArchive
	for _, image := range images {
		if image.Archive != "" {
			local = append(local, tree.ImageArchive{Name: image.Name, Digest: image.Digest, Path: image.Archive, Context: buildContext})
		}
	}
	return local
}

// diskSeed is what the identifiers of a disk follow from: what the image is, but
// not what is in it. All checksums within a file system depend on its identifier,
// so that one which changed with every lock would change every disk as a whole.
// Machines made from one image have the same identifiers anyway.
func diskSeed(image *v1alpha1.NodeImage, release distro.Release, infrastructure string) string {
	return strings.Join([]string{image.Metadata.Name, release.Distro, release.Version, release.Architecture, infrastructure}, "/")
}

// nodeInputs is what decides one node's configuration.
type nodeInputs struct {
	image          *v1alpha1.NodeImage
	lock           *lock.Lock
	digest         string
	release        distro.Release
	repositories   []packages.Repository // that the node keeps
	infrastructure infra.Infrastructure
	disk           disk.Config
	version        string
}
