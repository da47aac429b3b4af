package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages"
	packagestep "nodesmith.dev/nodesmith/internal/source/packages/step"
	"nodesmith.dev/nodesmith/internal/transfer"
)

// The package sets that apt is asked for.
const (
	toolsSet     = "tools"
	compilerSet  = "compiler"
	imageBaseSet = "image base"
	groundSet    = "ground"
	osSet        = "os"
	packagesSet  = "packages"
)

// takeNewest is what to do when nothing fits on top of what an earlier lock says.
const takeNewest = "run nodesmith lock, which takes the newest of everything"

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

// lockPackages fills in the package sets that the lock lacks and returns that of
// the container images.
func (p *Pipeline) lockPackages(ctx context.Context, image *v1alpha1.NodeImage, from sources, kept keeping, l *lock.Lock) (imageBase lock.PackageSet, err error) {
	imageBase = l.Kubernetes.ImageBase
	missing := unlocked(image.Spec.Infrastructures, l)
	if kept.packages && len(missing) == 0 {
		return imageBase, nil
	}
	toolsNow, targetNow, err := p.takeArchives(ctx, from)
	if err != nil {
		return imageBase, err
	}
	apt, err := toolsNow.Bootstrap()
	if err != nil {
		return imageBase, err
	}
	if kept.earlier == nil {
		answer, err := p.builder.Solve(ctx, from.tools, apt, toolsNow,
			packagestep.Set{Name: toolsSet, Install: append(toolsNow.Essential(), from.tools.Tools...)},
			packagestep.Set{Name: compilerSet, Install: from.tools.Compiler, On: []string{toolsSet}},
			packagestep.Set{Name: imageBaseSet, Install: from.tools.ImageBase})
		if err != nil {
			return imageBase, err
		}
		l.Tools, l.Compiler, imageBase = answer[toolsSet], answer[compilerSet], answer[imageBaseSet]
	}
	sets, err := targetSets(image, targetNow, kept, missing)
	if err != nil {
		return imageBase, err
	}
	if err := targetNow.Keep(ctx, slices.Concat(l.OS.Packages, l.Packages.Packages)); err != nil {
		return imageBase, fault.New(fault.KindOf(err), takeNewest, "a package that the lock keeps: %w", err)
	}
	answer, err := p.builder.Solve(ctx, from.tools, apt, targetNow, sets...)
	if err != nil && kept.os {
		err = fault.New(fault.KindOf(err), takeNewest, "packages on top of those that the lock keeps: %w", err)
	}
	if err != nil {
		return imageBase, err
	}
	if !kept.os {
		l.OS, l.Epoch = packages.Ground(answer[osSet], answer[groundSet]), newest(targetNow.Archives)
	}
	if !kept.packages {
		l.Packages = answer[packagesSet]
	}
	for _, name := range missing {
		l.Infrastructures = append(l.Infrastructures, lock.Infrastructure{Name: name, Packages: answer[infrastructureSet(name)]})
	}
	slices.SortFunc(l.Infrastructures, func(a, b lock.Infrastructure) int { return strings.Compare(a.Name, b.Name) })
	return imageBase, nil
}

// targetSets are what apt is asked for: what of the image stays is given, and the
// missing infrastructures go on top.
func targetSets(image *v1alpha1.NodeImage, now *packages.Snapshot, kept keeping, missing []string) ([]packagestep.Set, error) {
	sets := []packagestep.Set{
		{Name: groundSet, Install: now.Essential()},
		{Name: osSet, Install: append(now.Essential(), now.Release.Packages...)},
	}
	if kept.os {
		sets = []packagestep.Set{{Name: osSet, Given: packages.IDs(kept.earlier.OS.Packages)}}
	}
	below := []string{osSet}
	if len(image.Spec.Packages) > 0 {
		set := packagestep.Set{Name: packagesSet, Install: image.Spec.Packages, On: below, Further: true}
		if kept.packages {
			set = packagestep.Set{Name: packagesSet, Given: packages.IDs(kept.earlier.Packages.Packages)}
		}
		sets, below = append(sets, set), append(below, packagesSet)
	}
	for _, name := range missing {
		install, err := software(now.Release, name)
		if err != nil {
			return nil, err
		}
		if len(install) > 0 {
			sets = append(sets, packagestep.Set{Name: infrastructureSet(name), Install: install, On: below})
		}
	}
	return sets, nil
}

// newest returns the newest date among archives.
func newest(archives []lock.Archive) (date time.Time) {
	for _, archive := range archives {
		if archive.Date.After(date) {
			date = archive.Date
		}
	}
	return date
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
