package pipeline

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/distro/known"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
	"nodesmith.dev/nodesmith/internal/source/registry"
	"nodesmith.dev/nodesmith/internal/transfer"
)

// Known is what a spec may ask for.
func Known() v1alpha1.Known {
	return v1alpha1.Known{
		Distributions:    known.Versions(),
		Kubernetes:       kubernetes.Minors(),
		ContainerdConfig: kubernetes.ContainerdConfigs(),
		Infrastructures:  infra.Names(),
		Architectures:    []string{"amd64"},
		Formats:          slices.Sorted(slices.Values(formats.Names())),
	}
}

// Fits says whether a lock was made for what the image asks for. It may hold
// more infrastructures than the image names.
func Fits(l *lock.Lock, image *v1alpha1.NodeImage) bool {
	return l.Inputs == image.Inputs() && len(unlocked(image.Spec.Infrastructures, l)) == 0
}

// unlocked returns the infrastructures of which the lock says nothing, by name.
func unlocked(infrastructures []string, l *lock.Lock) (missing []string) {
	for _, name := range slices.Sorted(slices.Values(infrastructures)) {
		if _, locked := l.Infrastructure(name); !locked {
			missing = append(missing, name)
		}
	}
	return missing
}

// Lock resolves every input of the image to what the archives and the Go proxy
// offer now, but for what stays of an earlier lock (nil to take the newest of
// everything). buildContext is where the spec's files of keys are.
func (p *Pipeline) Lock(ctx context.Context, image *v1alpha1.NodeImage, buildContext fs.FS, earlier *lock.Lock) (*lock.Lock, error) {
	from, err := sourcesOf(image, buildContext)
	if err != nil {
		return nil, err
	}
	kept := keep(earlier, image)
	if kept.earlier != nil {
		p.record.Message("Kept from the lock: %s (nodesmith lock takes the newest of everything)", kept)
	}
	l := kept.start(image)
	group, ctx := errgroup.WithContext(ctx)
	imageBase := l.Kubernetes.ImageBase
	group.Go(func() (err error) {
		imageBase, err = p.lockPackages(ctx, image, from, kept, l)
		return err
	})
	k := l.Kubernetes
	if !kept.kubernetes {
		group.Go(func() (err error) {
			k, err = p.lockKubernetes(ctx, image)
			return err
		})
	}
	pulled := l.ContainerImages
	if !kept.images {
		group.Go(func() (err error) {
			pulled, err = p.lockImages(ctx, image)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	l.Kubernetes, l.ContainerImages = k, pulled
	l.Kubernetes.ImageBase = imageBase
	return l, nil
}

// lockKubernetes asks the Go proxy for the modules that the version is compiled from.
func (p *Pipeline) lockKubernetes(ctx context.Context, image *v1alpha1.NodeImage) (k lock.Kubernetes, err error) {
	work := p.record.Begin(tree.StageLock, "lock Kubernetes "+image.Spec.Kubernetes.Version+" and its Go modules")
	defer func() { work.End(err) }()
	modules, err := p.modules(ctx)
	if err != nil {
		return k, err
	}
	modules.Log = work.Log
	return gomodules.Lock(transfer.Count(ctx, work.Add), modules, image.Spec.Kubernetes.Version, image.Spec.Architecture, image.Spec.AllowUnverified)
}

// lockImages asks registries for the container images that the spec names.
func (p *Pipeline) lockImages(ctx context.Context, image *v1alpha1.NodeImage) ([]lock.PulledImage, error) {
	var pulled []lock.PulledImage
	for _, i := range image.Spec.ContainerImages {
		if i.Archive != "" {
			continue
		}
		work := p.record.Begin(tree.StageLock, "lock container image "+i.Name)
		locked, err := registry.Lock(ctx, i.Name, i.Digest, image.Spec.Architecture)
		if work.End(err); err != nil {
			return nil, err
		}
		pulled = append(pulled, locked)
	}
	slices.SortFunc(pulled, func(a, b lock.PulledImage) int { return strings.Compare(a.Name, b.Name) })
	return pulled, nil
}
