package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/source/packages/install"
	packagestep "nodesmith.dev/nodesmith/internal/source/packages/step"
)

// Mount points of the package steps.
const (
	debsDir = "/.nodesmith/packages"
	repoDir = "/.nodesmith/repository"
	outDir  = "/.nodesmith/out"
)

// Solve asks apt, in a tree unpacked from bootstrap, what the sets need of a
// snapshot's verified indices. Sets that are given are not in the answer.
func (b *Builder) Solve(ctx context.Context, tools distro.Release, bootstrap []lock.Package, snapshot *packages.Snapshot, sets ...packagestep.Set) (map[string]lock.PackageSet, error) {
	apt, err := b.unpacked(ctx, "apt", tools, bootstrap)
	if err != nil {
		return nil, err
	}
	config, indices := snapshot.Question(sets...)
	config.Repo, config.Out = repoDir, outDir+"/answer.json"
	repository, err := b.inputs.Lazy(ctx, "package indices", indices)
	if err != nil {
		return nil, err
	}
	title := fmt.Sprintf("solve packages of %s %s", snapshot.Release.Distro, snapshot.Release.Version)
	exec, err := b.run(ctx, step{
		title: title, program: "packages", verb: "solve", config: config, root: apt,
		mounts: []llb.RunOption{llb.AddMount(repoDir, repository, llb.Readonly)},
	})
	if err != nil {
		return nil, err
	}
	data, err := b.engine.ReadFile(ctx, title, exec.AddMount(outDir, llb.Scratch()), "answer.json")
	if err != nil {
		return nil, err
	}
	var answer packagestep.Answer
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("%s: the answer: %w", title, err)
	}
	resolved := map[string]lock.PackageSet{}
	for _, set := range sets {
		if set.Given != nil {
			continue
		}
		if resolved[set.Name], err = snapshot.Resolve(answer[set.Name], set.Further); err != nil {
			return nil, err
		}
	}
	return resolved, nil
}

// packagesOf returns the bundle of a set's package files.
func (b *Builder) packagesOf(ctx context.Context, title string, set []lock.Package) (llb.State, error) {
	input, bytes := title+" packages", int64(0)
	for _, p := range set {
		bytes += p.Size
	}
	return b.inputs.Lazy(ctx, input, bundle.Source{
		Key: packages.Key(set),
		Files: func() ([]bundle.File, error) {
			return fetched(ctx, b, StageOf(input), "packages for "+title, bytes, func(ctx context.Context, _ func(string, ...any)) ([]bundle.File, error) {
				return packages.Fetch(ctx, b.cache, set)
			})
		},
		Missing: func(context.Context) ([]bundle.Download, error) { return packages.Missing(b.cache, set), nil },
	})
}

// unpacked returns a tree of the set's files, none of them configured. The set
// holds the packages that it takes to unpack it.
func (b *Builder) unpacked(ctx context.Context, title string, release distro.Release, set []lock.Package) (llb.State, error) {
	root, err := b.unpacker(ctx, release, set)
	if err != nil {
		return llb.State{}, err
	}
	return b.unpack(ctx, title+": unpack", release, set, root, llb.Scratch())
}

// unpacker returns a tree with xz and no more: liblzma is several times faster
// than xz in Go. What is unpacked in it depends on no other tool.
func (b *Builder) unpacker(ctx context.Context, release distro.Release, set []lock.Package) (llb.State, error) {
	var packages []lock.Package
	for _, p := range set {
		if slices.Contains(release.Unpacker, p.Name) {
			packages = append(packages, p)
		}
	}
	slices.SortFunc(packages, func(a, b lock.Package) int { return strings.Compare(a.Name, b.Name) })
	return b.unpack(ctx, "unpack xz", release, packages, llb.Scratch(), llb.Scratch())
}

// unpack unpacks a set with the xz of root, into tree.
func (b *Builder) unpack(ctx context.Context, title string, release distro.Release, set []lock.Package, root, tree llb.State) (llb.State, error) {
	debs, err := b.packagesOf(ctx, title, set)
	if err != nil {
		return llb.State{}, err
	}
	exec, err := b.run(ctx, step{
		title: title, program: "packages", verb: "unpack", root: root, config: unpacking(release, set),
		mounts: []llb.RunOption{llb.AddMount(debsDir, debs, llb.Readonly)},
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(outDir, tree), nil
}

func unpacking(release distro.Release, set []lock.Package) packagestep.UnpackConfig {
	return packagestep.UnpackConfig{
		Packages: packages.Names(set), From: debsDir, Out: outDir, Links: release.Links, Presets: release.Presets,
		Directories: release.Directories, Exclude: release.Exclude, Include: release.Include,
	}
}

// Tools returns the tree that the build's own programs come from.
func (b *Builder) Tools(ctx context.Context, release distro.Release, l *lock.Lock) (llb.State, error) {
	return b.unpacked(ctx, "tools", release, l.Tools.Packages)
}

// Compiler returns the tree of tools with what compiles on top.
func (b *Builder) Compiler(ctx context.Context, release distro.Release, tools llb.State, l *lock.Lock) (llb.State, error) {
	if len(l.Compiler.Packages) == 0 {
		return tools, nil // a lock of before has all of them in one set
	}
	xz, err := b.unpacker(ctx, release, l.Tools.Packages)
	if err != nil {
		return llb.State{}, err
	}
	return b.unpack(ctx, "tools: unpack the compiler", release, l.Compiler.Packages, xz, tools)
}

// OS returns the operating system: every package of the set unpacked as the
// release's own dpkg would, then configured by that dpkg in the tree itself, with no
// network. The initramfs is made beside most of that, of a tree that holds all that
// goes into it.
func (b *Builder) OS(ctx context.Context, tools, release distro.Release, l *lock.Lock) (llb.State, error) {
	config, ground := wholeSystem(release, l.OS.Packages)
	xz, err := b.unpacker(ctx, tools, l.Tools.Packages)
	if err != nil {
		return llb.State{}, err
	}
	debs, err := b.packagesOf(ctx, "os: unpack", l.OS.Packages)
	if err != nil {
		return llb.State{}, err
	}
	mounts := []llb.RunOption{llb.AddMount(debsDir, debs, llb.Readonly)}
	unpack, err := b.run(ctx, step{
		title: "os: unpack", program: "install", verb: "unpack", root: xz, mounts: mounts, epoch: l.Epoch,
		config: install.UnpackConfig{UnpackConfig: unpacking(release, l.OS.Packages), Ground: ground},
	})
	if err != nil {
		return llb.State{}, err
	}
	begun, err := b.run(ctx, step{
		title: "os: kernel", program: "install", verb: "begin", epoch: l.Epoch, mounts: mounts,
		root: unpack.AddMount(outDir, llb.Scratch()), config: config,
	})
	if err != nil {
		return llb.State{}, err
	}
	initramfs, err := b.run(ctx, step{
		title: "os: initramfs", program: "install", verb: "initramfs", epoch: l.Epoch,
		root: begun.Root(), config: install.InitramfsConfig{Out: outDir},
	})
	if err != nil {
		return llb.State{}, err
	}
	configured, err := b.run(ctx, step{
		title: "os: configure", program: "install", verb: "finish", epoch: l.Epoch,
		root: begun.Root(), config: settings(release),
	})
	if err != nil {
		return llb.State{}, err
	}
	return llb.Merge([]llb.State{configured.Root(), initramfs.AddMount(outDir, llb.Scratch())}, llb.WithCustomName("os: merge layers")), nil
}

// wholeSystem is how a system's packages are installed, and which files are those of
// its ground packages.
func wholeSystem(release distro.Release, set []lock.Package) (config install.Config, ground []string) {
	config = settings(release)
	config.From = debsDir
	for _, p := range set {
		switch {
		case !p.Ground:
			config.Rest = append(config.Rest, toInstall(p))
			continue
		case slices.Contains(release.First, p.Name):
			config.First = append(config.First, toInstall(p))
		default:
			config.Ground = append(config.Ground, toInstall(p))
		}
		ground = append(ground, packages.Name(p))
	}
	for name := range release.Presets {
		config.Keep = append(config.Keep, "/"+name)
	}
	slices.Sort(config.Keep)
	return config, ground
}

func toInstall(p lock.Package) install.Package {
	return install.Package{Name: p.Name, File: packages.Name(p)}
}

// settings is how a release's packages are installed.
func settings(release distro.Release) install.Config {
	return install.Config{
		Exclude: release.Exclude, Include: release.Include,
		Host: release.Host, Empty: release.Empty, Reset: release.Reset,
	}
}

// AddPackages returns the tree with a further set of packages on top; the tree
// itself if the set is empty. title begins the step's name.
func (b *Builder) AddPackages(ctx context.Context, title string, release distro.Release, tree llb.State, set lock.PackageSet, l *lock.Lock) (llb.State, error) {
	if len(set.Packages) == 0 {
		return tree, nil
	}
	config := settings(release)
	config.From = debsDir
	for _, p := range set.Packages {
		config.Rest = append(config.Rest, toInstall(p))
	}
	title += ": configure"
	debs, err := b.packagesOf(ctx, title, set.Packages)
	if err != nil {
		return llb.State{}, err
	}
	exec, err := b.run(ctx, step{
		title: title, program: "install", verb: "packages", config: config, root: tree, epoch: l.Epoch,
		mounts: []llb.RunOption{llb.AddMount(debsDir, debs, llb.Readonly)},
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.Root(), nil
}
