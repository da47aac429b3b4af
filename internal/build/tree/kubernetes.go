package tree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
)

// Mount points of the steps that compile and that make container images.
const (
	toolchainDir = "/.nodesmith/go"
	modulesDir   = "/.nodesmith/modules"
	goCacheDir   = "/.nodesmith/go-build"
	binariesDir  = "/.nodesmith/binaries"
	imageBaseDir = "/.nodesmith/image-base"
	askedDir     = "/.nodesmith/asked"
)

// goCacheID names the compile cache that every Go version and component
// shares: the go command keys what is in it by content.
const goCacheID = "nodesmith-go-build"

// Where the node's programs lie, by program: kubeadm's packages put theirs into
// /usr/bin, containerd's own unit and CAPI's contract look in /usr/local.
var places = []struct {
	component string
	names     []string // all that the component compiled if empty
	dir       string
}{
	{golang.Kubernetes, []string{"kubeadm", "kubelet", "kubectl"}, "/usr/bin"},
	{golang.Containerd, nil, "/usr/local/bin"},
	{golang.Crictl, nil, "/usr/local/bin"},
	{golang.Runc, nil, "/usr/local/sbin"},
	{golang.CNI, nil, "/opt/cni/bin"},
}

// Kubernetes is what a node needs of one Kubernetes version.
type Kubernetes struct {
	// Programs are kubeadm, kubelet, kubectl, containerd and the like at their
	// places; Images is the containerd store under /var/lib/containerd, but for
	// its whiteouts, which WhiteoutsFile in Whiteouts lists.
	Programs, Images, Whiteouts llb.State

	// programs is what a step noted of the programs; Whiteouts has what another
	// did of the images.
	programs llb.State
}

// Kubernetes compiles the locked components, makes the container images of
// them, and adds those of the lock and of local archives. Nothing of it depends
// on the node's operating system.
func (b *Builder) Kubernetes(ctx context.Context, release distro.Release, compiler llb.State, local []ImageArchive, l *lock.Lock) (Kubernetes, error) {
	compiled, err := b.compile(ctx, compiler, l)
	if err != nil {
		return Kubernetes{}, err
	}
	images, placed, err := b.store(ctx, release, compiled, local, l)
	if err != nil {
		return Kubernetes{}, err
	}
	noted, err := b.programs(ctx, compiled)
	if err != nil {
		return Kubernetes{}, err
	}
	layer := llb.Scratch()
	for _, p := range places {
		copied := &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true, CreatedTime: &l.Epoch, IncludePatterns: p.names}
		layer = layer.File(llb.Copy(compiled[p.component], "/", p.dir, copied), llb.WithCustomName("kubernetes: place "+p.component))
	}
	return Kubernetes{Programs: layer, Images: images, Whiteouts: placed, programs: noted}, nil
}

// compile returns one state for each component, with its programs at the top.
func (b *Builder) compile(ctx context.Context, compiler llb.State, l *lock.Lock) (map[string]llb.State, error) {
	// Fetched once, and only if some component's modules are not yet an input.
	fetch := sync.OnceValues(func() (gomodules.Sources, error) {
		config, err := b.modules(ctx)
		if err != nil {
			return gomodules.Sources{}, err
		}
		return fetched(ctx, b, StageKubernetes, "Go modules", 0, func(ctx context.Context, log func(string, ...any)) (gomodules.Sources, error) {
			config.Log = log
			return gomodules.Fetch(ctx, config, l.Kubernetes)
		})
	})
	missing := sync.OnceValues(func() ([]bundle.Download, error) {
		config, err := b.modules(ctx)
		if err != nil {
			return nil, err
		}
		return gomodules.Missing(ctx, config, l.Kubernetes)
	})
	toolchain, err := b.toolchain(ctx, fetch, missing, l)
	if err != nil {
		return nil, err
	}
	compiled := map[string]llb.State{}
	for _, component := range l.Kubernetes.Components {
		key := fmt.Sprintln("modules of", component.Name, component.GoMod) + strings.Join(component.GoSum, "\n")
		modules, err := b.inputs.Lazy(ctx, component.Name+" modules", bundle.Source{
			Key: key,
			Files: func() ([]bundle.File, error) {
				sources, err := fetch()
				if err != nil {
					return nil, err
				}
				return filesIn(os.DirFS(sources.Components[component.Name]), ".")
			},
			Missing: func(context.Context) ([]bundle.Download, error) { return missing() },
		})
		if err != nil {
			return nil, err
		}
		config, err := golang.NewBuildConfig(l.Kubernetes, component.Name, l.Architecture)
		if err != nil {
			return nil, err
		}
		config.Toolchain, config.Modules, config.Cache, config.Out = toolchainDir, modulesDir, goCacheDir, outDir
		exec, err := b.run(ctx, step{
			title:   "kubernetes: compile " + component.Name + " " + component.Version,
			program: "golang", verb: "build", config: config, root: compiler,
			// Not the archives' date: a package update must not recompile.
			epoch: buildDate,
			mounts: []llb.RunOption{
				llb.AddMount(toolchainDir, toolchain, llb.Readonly),
				llb.AddMount(modulesDir, modules, llb.Readonly),
				llb.AddMount(goCacheDir, llb.Scratch(), llb.AsPersistentCacheDir(goCacheID, llb.CacheMountShared)),
			},
		})
		if err != nil {
			return nil, err
		}
		compiled[component.Name] = exec.AddMount(outDir, llb.Scratch())
	}
	return compiled, nil
}

// buildDate is what compiled programs say of when they were built: they are
// the same whenever they are.
var buildDate = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func (b *Builder) toolchain(ctx context.Context, fetch func() (gomodules.Sources, error), missing func() ([]bundle.Download, error), l *lock.Lock) (llb.State, error) {
	module := l.Kubernetes.Toolchain
	const name = "toolchain.zip"
	zip, err := b.inputs.Lazy(ctx, "Go toolchain", bundle.Source{
		Key: fmt.Sprintln(module.Path, module.Version, module.Sum),
		Files: func() ([]bundle.File, error) {
			sources, err := fetch()
			if err != nil {
				return nil, err
			}
			return []bundle.File{{Name: name, Mode: 0o644, Path: filepath.Join(sources.Toolchain, filepath.FromSlash(sources.ToolchainZip))}}, nil
		},
		Missing: func(context.Context) ([]bundle.Download, error) { return missing() },
	})
	if err != nil {
		return llb.State{}, err
	}
	exec, err := b.run(ctx, step{
		title: "unpack the Go toolchain", program: "golang", verb: "toolchain", root: llb.Scratch(),
		config: golang.ToolchainConfig{Module: module, Zip: modulesDir + "/" + name, Out: outDir},
		epoch:  buildDate,
		mounts: []llb.RunOption{llb.AddMount(modulesDir, zip, llb.Readonly)},
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(outDir, llb.Scratch()), nil
}

// store returns the containerd store with the images that kubeadm asks for and
// those that the spec adds, and the lists of them all and of their whiteouts.
func (b *Builder) store(ctx context.Context, release distro.Release, compiled map[string]llb.State, local []ImageArchive, l *lock.Lock) (images, placed llb.State, err error) {
	xz, err := b.unpacker(ctx, release, l.Tools.Packages)
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	base, err := b.unpack(ctx, "container image base: unpack", release, l.Kubernetes.ImageBase.Packages, xz, llb.Scratch())
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	inputs := containerimage.Inputs{Binaries: map[string]string{}, ImageBase: imageBaseDir}
	asked, err := b.asked(ctx, compiled[golang.Kubernetes], l)
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	mounts := []llb.RunOption{
		llb.AddMount(imageBaseDir, base, llb.Readonly),
		llb.AddMount(askedDir, asked, llb.Readonly),
	}
	for _, component := range []string{golang.Kubernetes, golang.Etcd, golang.CoreDNS, golang.Pause} {
		dir := binariesDir + "/" + component
		mounts = append(mounts, llb.AddMount(dir, compiled[component], llb.Readonly))
		for _, name := range imageBinaries[component] {
			inputs.Binaries[name] = dir + "/" + name
		}
	}
	config, err := containerimage.Kubeadm(l.Kubernetes.Images, inputs, l.Architecture, outDir)
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	archives, archived, err := b.archives(ctx, l, local)
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	config.Archives, mounts = archives, append(mounts, archived...)
	config.Record, config.Whiteouts = recordDir+"/"+placedFile, recordDir+"/"+WhiteoutsFile
	exec, err := b.run(ctx, step{
		title: "kubernetes: container images", program: "images", verb: "store", config: config,
		root: llb.Scratch(), epoch: buildDate, mounts: mounts,
	})
	if err != nil {
		return llb.State{}, llb.State{}, err
	}
	return exec.AddMount(outDir, llb.Scratch()), exec.AddMount(recordDir, llb.Scratch()), nil
}

// asked returns a state that exists only if the compiled kubeadm asks for the
// very images that the lock names.
func (b *Builder) asked(ctx context.Context, kubernetes llb.State, l *lock.Lock) (llb.State, error) {
	config := containerimage.AskConfig{Kubeadm: binariesDir + "/kubeadm", Version: l.Kubernetes.Version, Out: outDir + "/images"}
	for _, image := range l.Kubernetes.Images {
		config.Images = append(config.Images, image.Name)
	}
	exec, err := b.run(ctx, step{
		title: "kubernetes: ask kubeadm for its images", program: "images", verb: "ask", config: config, root: llb.Scratch(),
		mounts: []llb.RunOption{llb.AddMount(binariesDir, kubernetes, llb.Readonly)},
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(outDir, llb.Scratch()), nil
}

// imageBinaries are the programs of each component that go into images.
var imageBinaries = map[string][]string{
	golang.Kubernetes: {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"},
	golang.Etcd:       {"etcd", "etcdctl", "etcdutl"},
	golang.CoreDNS:    {"coredns"},
	golang.Pause:      {"pause"},
}
