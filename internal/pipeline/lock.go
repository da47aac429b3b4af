package pipeline

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/fault"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
	"nodesmith.dev/nodesmith/internal/source/packages"
	packagestep "nodesmith.dev/nodesmith/internal/source/packages/step"
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
	return l.Inputs == image.InputsDigest() && !slices.ContainsFunc(image.Spec.Infrastructures, func(name string) bool {
		_, locked := l.Infrastructure(name)
		return !locked
	})
}

// Lock resolves every input of the image to what the archives and the Go proxy
// offer now. buildContext is where the spec's files of keys are.
func (p *Pipeline) Lock(ctx context.Context, image *v1alpha1.NodeImage, buildContext fs.FS) (*lock.Lock, error) {
	from, err := sourcesOf(image, buildContext)
	if err != nil {
		return nil, err
	}
	l := &lock.Lock{
		APIVersion: lock.APIVersion, Kind: lock.Kind, Image: image.Metadata.Name,
		Inputs: image.InputsDigest(), Architecture: image.Spec.Architecture,
	}
	group, ctx := errgroup.WithContext(ctx)
	var imageBase lock.PackageSet
	group.Go(func() (err error) {
		imageBase, err = p.lockPackages(ctx, image, from, l)
		return err
	})
	var k lock.Kubernetes
	group.Go(func() (err error) {
		work := p.record.Begin(tree.StageLock, "lock Kubernetes "+image.Spec.Kubernetes.Version+" and its Go modules")
		defer func() { work.End(err) }()
		modules, err := p.modules(ctx)
		if err != nil {
			return err
		}
		modules.Log = work.Log
		k, err = gomodules.Lock(transfer.Count(ctx, work.Add), modules, image.Spec.Kubernetes.Version, image.Spec.Architecture, image.Spec.AllowUnverified)
		return err
	})
	var pulled []lock.PulledImage
	group.Go(func() (err error) {
		pulled, err = p.lockImages(ctx, image)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	l.Kubernetes, l.ContainerImages = k, pulled
	l.Kubernetes.ImageBase = imageBase
	return l, nil
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

// The package sets that apt is asked for.
const (
	toolsSet     = "tools"
	imageBaseSet = "image base"
	groundSet    = "ground"
	osSet        = "os"
	packagesSet  = "packages"
)

// infrastructureSet names the set of what an infrastructure needs.
func infrastructureSet(name string) string { return "infrastructure " + name }

// software returns the release's packages for what an infrastructure asks for.
func software(release distro.Release, name string) ([]string, error) {
	infrastructure, ok := infra.Find(name)
	if !ok {
		return nil, fault.New(fault.BadSpec, "", "no infrastructure %q", name)
	}
	var install []string
	for _, s := range infrastructure.Software {
		names, ok := release.Software[s]
		if !ok {
			return nil, fault.New(fault.BadSpec, "leave the infrastructure out, or take another release",
				"%s %s has no packages for the %s that %s needs", release.Distro, release.Version, s, name)
		}
		install = append(install, names...)
	}
	return install, nil
}

// lockPackages fills in the lock's package sets and returns that of the
// container images.
func (p *Pipeline) lockPackages(ctx context.Context, image *v1alpha1.NodeImage, from sources, l *lock.Lock) (lock.PackageSet, error) {
	tools, release := from.tools, from.target
	toolsNow, targetNow, err := p.takeArchives(ctx, from)
	if err != nil {
		return lock.PackageSet{}, err
	}
	apt, err := toolsNow.Bootstrap()
	if err != nil {
		return lock.PackageSet{}, err
	}
	forTools, err := p.builder.Solve(ctx, tools, apt, toolsNow,
		packagestep.Set{Name: toolsSet, Install: append(toolsNow.Essential(), tools.Tools...)},
		packagestep.Set{Name: imageBaseSet, Install: tools.ImageBase})
	if err != nil {
		return lock.PackageSet{}, err
	}
	sets := []packagestep.Set{
		{Name: groundSet, Install: targetNow.Essential()},
		{Name: osSet, Install: append(targetNow.Essential(), release.Packages...)},
	}
	below := []string{osSet}
	if len(image.Spec.Packages) > 0 {
		sets = append(sets, packagestep.Set{Name: packagesSet, Install: image.Spec.Packages, On: below, Further: true})
		below = append(below, packagesSet)
	}
	for _, name := range slices.Sorted(slices.Values(image.Spec.Infrastructures)) {
		install, err := software(release, name)
		if err != nil {
			return lock.PackageSet{}, err
		}
		l.Infrastructures = append(l.Infrastructures, lock.Infrastructure{Name: name})
		if len(install) > 0 {
			sets = append(sets, packagestep.Set{Name: infrastructureSet(name), Install: install, On: below})
		}
	}
	forTarget, err := p.builder.Solve(ctx, tools, apt, targetNow, sets...)
	if err != nil {
		return lock.PackageSet{}, err
	}
	l.Tools, l.OS = forTools[toolsSet], packages.Ground(forTarget[osSet], forTarget[groundSet])
	l.Packages = forTarget[packagesSet]
	for i, infrastructure := range l.Infrastructures {
		l.Infrastructures[i].Packages = forTarget[infrastructureSet(infrastructure.Name)]
	}
	for _, archive := range targetNow.Archives {
		if archive.Date.After(l.Epoch) {
			l.Epoch = archive.Date
		}
	}
	return forTools[imageBaseSet], nil
}

// takeArchives reads what the archives of the tools' release and of the target's
// offer now.
func (p *Pipeline) takeArchives(ctx context.Context, from sources) (tools, target *packages.Snapshot, err error) {
	work := p.record.Begin(tree.StageLock, fmt.Sprintf("read the package archives of %s %s", from.target.Distro, from.target.Version))
	defer func() { work.End(err) }()
	ctx = transfer.Count(ctx, work.Add)
	if tools, err = packages.Take(ctx, p.cache, from.tools, nil, p.options.Settings.Now); err != nil || from.shared() {
		return tools, tools, err
	}
	target, err = packages.Take(ctx, p.cache, from.target, from.repositories, p.options.Settings.Now)
	return tools, target, err
}
