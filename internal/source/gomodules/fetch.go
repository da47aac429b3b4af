package gomodules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/lru"
)

// Sources are the modules of a lock on this machine. Each directory is laid out
// as a module proxy serves it (PATH/@v/VERSION.zip), holds exactly the files
// that the lock names and is never changed once it is there: what is in it
// depends on the lock only, and its name is that of its content.
type Sources struct {
	// Toolchain is the directory with the toolchain module's zip file, and
	// ToolchainZip the name of that file in it, with slashes.
	Toolchain, ToolchainZip string
	// Components has a directory for each component, by name.
	Components map[string]string
}

// Fetch downloads what k names and returns where it is. Everything is verified
// against the lock's checksums, whether it comes from the network or from the
// cache. Directories that an earlier run completed are taken as they are.
func Fetch(ctx context.Context, cfg Config, k lock.Kubernetes) (Sources, error) {
	client, err := goproxy.New(cfg.Proxy)
	if err != nil {
		return Sources{}, err
	}
	zipName, err := goproxy.Escape(module.Version{Path: k.Toolchain.Path, Version: k.Toolchain.Version}, "zip")
	if err != nil {
		return Sources{}, err
	}
	folders := foldersOf(k)
	f := fetcher{client: client, dir: cfg.bundles(), slots: make(chan struct{}, jobs)}
	dirs := make([]string, len(folders))
	g, ctx := errgroup.WithContext(ctx)
	for i, b := range folders {
		g.Go(func() (err error) {
			dirs[i] = filepath.Join(f.dir, b.dirName())
			if _, err := os.Stat(dirs[i]); err == nil {
				lru.Touch(dirs[i])
				return nil
			}
			cfg.logf("fetching %d files of %s %s", len(b.sums), b.name, b.version)
			if err := f.folder(ctx, b, dirs[i]); err != nil {
				return fmt.Errorf("fetching %s %s: %w", b.name, b.version, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Sources{}, err
	}
	out := Sources{Toolchain: dirs[0], ToolchainZip: zipName, Components: make(map[string]string, len(k.Components))}
	for i, c := range k.Components {
		out.Components[c.Name] = dirs[i+1]
	}
	return out, nil
}

// content is that of one directory: the files that lines of go.sum name.
type content struct {
	name, version string
	sums          []string
}

// foldersOf returns the folders of a lock, the toolchain's first.
func foldersOf(k lock.Kubernetes) []content {
	t := k.Toolchain
	folders := []content{{name: "toolchain", version: t.Version, sums: []string{t.Path + " " + t.Version + " " + t.Sum}}}
	for _, c := range k.Components {
		folders = append(folders, content{name: c.Name, version: c.Version, sums: c.GoSum})
	}
	return folders
}

// bundles is the directory in which Fetch leaves folders.
func (cfg Config) bundles() string { return filepath.Join(cfg.Proxy.Dir, bundlesDir) }

// dirName is a name that two different contents never share.
func (b content) dirName() string {
	h := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(b.sums)), "\n")))
	return b.name + "-" + b.version + "-" + hex.EncodeToString(h[:8])
}

type fetcher struct {
	client *goproxy.Client
	dir    string        // where folders are
	slots  chan struct{} // bounds the downloads of all folders together
}

// folder makes the directory dir: under another name first, so that it is there
// complete or not at all.
func (f fetcher) folder(ctx context.Context, b content, dir string) error {
	sums, err := parseSums(b.sums)
	if err != nil {
		return fault.New(fault.BadSpec, "lock again", "the lock's goSum of %s: %w", b.name, err)
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(f.dir, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for m, sum := range sums {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(g.Wait(), context.Cause(ctx))
		}
		g.Go(func() error {
			defer func() { <-f.slots }()
			return f.file(ctx, tmp, m, sum)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// Another process may have been faster; its directory is as good.
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// file puts the file of one line of go.sum into the directory tmp.
func (f fetcher) file(ctx context.Context, tmp string, m module.Version, sum string) error {
	get := f.client.Zip
	m, ext := fileOf(m)
	if ext == "mod" {
		get = f.client.Mod
	}
	cached, _, err := get(ctx, m, sum)
	if err != nil {
		return err
	}
	name, err := goproxy.Escape(m, ext)
	if err != nil {
		return err
	}
	to := filepath.Join(tmp, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	// One copy on the disk serves the cache and every folder. The go command
	// may have written it, with a mode that the umask decided.
	if err := os.Link(cached, to); err != nil {
		return err
	}
	return os.Chmod(to, 0o644)
}

// fileOf returns the module of a line of go.sum, and which of its files that is
// of: its zip file, or its go.mod ("mod") if the version ends in /go.mod.
func fileOf(m module.Version) (_ module.Version, ext string) {
	if v, ok := strings.CutSuffix(m.Version, "/go.mod"); ok {
		return module.Version{Path: m.Path, Version: v}, "mod"
	}
	return m, "zip"
}
