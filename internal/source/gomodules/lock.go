package gomodules

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/lock"
)

// toolchainModule is the module that Go toolchains are published as.
const toolchainModule = "golang.org/toolchain"

// Lock pins everything that is compiled for a Kubernetes version (v1.34.0) on
// an architecture (Go's name: amd64). Each module is verified by the checksum
// database, by a sum in the table of package kubernetes or, if allowUnverified
// (module path patterns as in GONOSUMDB) matches it, by nothing; any other is a
// fault.Unverifiable. ImageBase of the result is left empty.
func Lock(ctx context.Context, cfg Config, version, arch string, allowUnverified []string) (lock.Kubernetes, error) {
	l, err := newLocker(cfg, version, arch, allowUnverified)
	if err != nil {
		return lock.Kubernetes{}, err
	}
	return l.lock(ctx)
}

// locker is one run of Lock.
type locker struct {
	cfg     Config
	client  *goproxy.Client
	version string
	arch    string
	release kubernetes.Release
	pinned  map[module.Version]string // as in go.sum: the version may end in /go.mod
}

func newLocker(cfg Config, version, arch string, allowUnverified []string) (*locker, error) {
	release, err := kubernetes.Compilable(version)
	if err != nil {
		return nil, err
	}
	cfg.Proxy.NoSumDB = strings.Join(slices.DeleteFunc(append([]string{cfg.Proxy.NoSumDB}, allowUnverified...),
		func(s string) bool { return s == "" }), ",")
	client, err := goproxy.New(cfg.Proxy)
	if err != nil {
		return nil, err
	}
	pinned, err := parseSums(release.Sums)
	if err != nil {
		return nil, err
	}
	return &locker{cfg: cfg, client: client, version: version, arch: arch, release: release, pinned: pinned}, nil
}

func (l *locker) lock(ctx context.Context) (lock.Kubernetes, error) {
	k8s := module.Version{Path: golang.KubernetesModule, Version: l.version}
	l.cfg.logf("reading %s", k8s)
	zipFile, k8sSum, err := l.client.Zip(ctx, k8s, l.pinned[k8s])
	if errors.Is(err, fs.ErrNotExist) {
		return lock.Kubernetes{}, fault.New(fault.BadSpec, "choose a version that was released", "Kubernetes %s: %w", l.version, err)
	}
	if err != nil {
		return lock.Kubernetes{}, err
	}
	add, err := l.readAddons(zipFile, k8s)
	if err != nil {
		return lock.Kubernetes{}, err
	}
	toolchain, goCommand, err := l.toolchain(ctx, zipFile, k8s)
	if err != nil {
		return lock.Kubernetes{}, err
	}
	components, err := l.components(ctx, goCommand, l.versions(add), k8sSum)
	if err != nil {
		return lock.Kubernetes{}, err
	}
	return lock.Kubernetes{
		Version:    l.version,
		Toolchain:  toolchain,
		Components: components,
		Images:     add.images(l.version),
	}, nil
}

// versions says which version of each component goes with this Kubernetes.
func (l *locker) versions(add addons) map[string]string {
	return map[string]string{
		golang.Kubernetes: l.version,
		golang.Pause:      l.version,
		golang.Etcd:       add.etcdModule(),
		golang.CoreDNS:    add.coreDNS,
		golang.Containerd: l.release.Containerd,
		golang.Runc:       l.release.Runc,
		golang.CNI:        l.release.CNIPlugins,
		golang.Crictl:     l.release.CRITools,
	}
}

func (l *locker) readAddons(zipFile string, k8s module.Version) (addons, error) {
	src, err := golang.ReadFile(zipFile, k8s, constantsFile)
	if err != nil {
		return addons{}, err
	}
	return parseConstants(src, l.release.Minor)
}

// toolchain pins the Go toolchain that Kubernetes names in .go-version, and
// returns the path of its go command for this machine.
func (l *locker) toolchain(ctx context.Context, zipFile string, k8s module.Version) (lock.GoModule, string, error) {
	text, err := golang.ReadFile(zipFile, k8s, ".go-version")
	if err != nil {
		return lock.GoModule{}, "", err
	}
	goVersion := strings.TrimSpace(string(text))
	fetch := func(goos, arch string) (zip string, m module.Version, sum string, err error) {
		m = module.Version{Path: toolchainModule, Version: "v0.0.1-go" + goVersion + "." + goos + "-" + arch}
		l.cfg.logf("fetching Go %s for %s/%s", goVersion, goos, arch)
		zip, sum, err = l.client.Zip(ctx, m, "")
		if err != nil {
			err = fmt.Errorf("the Go toolchain that Kubernetes %s names, go%s for %s/%s: %w", l.version, goVersion, goos, arch, err)
		}
		return zip, m, sum, err
	}
	zip, m, sum, err := fetch("linux", l.arch)
	if err != nil {
		return lock.GoModule{}, "", err
	}
	locked := lock.GoModule{Path: m.Path, Version: m.Version, Sum: sum}
	if runtime.GOOS != "linux" || runtime.GOARCH != l.arch {
		if zip, m, sum, err = fetch(runtime.GOOS, runtime.GOARCH); err != nil {
			return lock.GoModule{}, "", err
		}
	}
	command, err := installToolchain(l.cfg.Proxy.Dir, zip, m, sum)
	return locked, command, err
}

// components resolves every component, two at a time: the go command is busy
// with the network most of the time, but not all of it.
func (l *locker) components(ctx context.Context, goCommand string, versions map[string]string, k8sSum string) ([]lock.GoComponent, error) {
	table := golang.Components()
	out := make([]lock.GoComponent, len(table))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i, c := range table {
		g.Go(func() error {
			l.cfg.logf("resolving the modules of %s %s", c.Name, versions[c.Name])
			var err error
			out[i], err = l.component(ctx, goCommand, c, versions[c.Name], k8sSum)
			if err != nil {
				return fmt.Errorf("locking %s %s: %w", c.Name, versions[c.Name], err)
			}
			return nil
		})
	}
	return out, g.Wait()
}

// component pins the modules of one component.
func (l *locker) component(ctx context.Context, goCommand string, c golang.Component, version, k8sSum string) (lock.GoComponent, error) {
	out := lock.GoComponent{Name: c.Name, Module: c.Modules[0], Version: version, Packages: c.Packages()}
	var requires []module.Version
	var upstreams []*modfile.File
	for _, path := range c.Modules {
		requires = append(requires, module.Version{Path: path, Version: version})
	}
	for _, m := range requires {
		f, err := l.goMod(ctx, m)
		if err != nil {
			return lock.GoComponent{}, err
		}
		upstreams = append(upstreams, f)
	}
	if c.C != "" { // nothing is resolved: one file of one module is compiled
		out.GoSum = []string{c.Modules[0] + " " + version + " " + k8sSum}
		return out, nil
	}
	staging := ""
	switch c.Name {
	case golang.Kubernetes:
		var err error
		if staging, err = kubernetes.StagingVersion(version); err != nil {
			return lock.GoComponent{}, err
		}
	case golang.Runc:
		for _, r := range l.release.RuncRequires {
			path, v, _ := strings.Cut(r, " ")
			requires = append(requires, module.Version{Path: path, Version: v})
		}
	}
	var err error
	if out.GoMod, err = wrapper(c.Name, requires, upstreams, staging); err != nil {
		return lock.GoComponent{}, err
	}
	vouched, err := l.vouched(ctx, requires)
	if err != nil {
		return lock.GoComponent{}, err
	}
	out.GoMod, out.GoSum, err = l.resolve(ctx, goCommand, c, out.GoMod, vouched)
	return out, err
}

// vouched returns the lines of go.sum for those of requires that the checksum
// database lacks, with their own go.sum: they tend to require modules that it
// lacks as well, and what is in a module zip of a known sum is known too.
func (l *locker) vouched(ctx context.Context, requires []module.Version) ([]string, error) {
	var out []string
	for _, m := range requires {
		sum, ok := l.pinned[m]
		if !ok {
			continue
		}
		zipFile, _, err := l.client.Zip(ctx, m, sum)
		if err != nil {
			return nil, err
		}
		own, err := golang.ReadFile(zipFile, m, "go.sum")
		if err != nil {
			return nil, err
		}
		mod := module.Version{Path: m.Path, Version: m.Version + "/go.mod"}
		out = append(out, m.Path+" "+m.Version+" "+sum, mod.Path+" "+mod.Version+" "+l.pinned[mod])
		out = append(out, sumLines(own)...)
	}
	return out, nil
}

// goMod returns the verified go.mod of m.
func (l *locker) goMod(ctx context.Context, m module.Version) (*modfile.File, error) {
	file, _, err := l.client.Mod(ctx, m, l.pinned[module.Version{Path: m.Path, Version: m.Version + "/go.mod"}])
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(m.Path+"@"+m.Version+"/go.mod", data, nil)
}
