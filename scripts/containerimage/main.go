// Command containerimage makes the container image in which nodesmith builds, with
// nodesmith's own means: Debian's packages, verified and unpacked in the engine, and
// the program on top. What comes out is a tar file for `docker load`, `podman load`
// and `ctr image import`; it needs no registry and no base image. The same packages
// and the same program give the same bytes.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/housekeeping"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/source/packages"
)

// installed are the packages on top of the essential ones: what steps run in, what
// an ordinary user needs for that (setcap is make-user.sh's), and what registries and
// engines elsewhere are reached with.
var installed = []string{"runc", "uidmap", "libcap2-bin", "ca-certificates", "openssh-client"}

// makeUser is the script that makes the ordinary user of the image.
//
//go:embed make-user.sh
var makeUser string

func main() {
	program := flag.String("program", "bin/nodesmith", "the `FILE` of nodesmith")
	output := flag.String("o", "out/nodesmith-image.tar", "the `FILE` to write")
	name := flag.String("name", "nodesmith:latest", "the image's `NAME`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *output, *name); err != nil {
		fmt.Fprintln(os.Stderr, "container image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, output, name string) (err error) {
	settings, err := host.Read()
	if err != nil {
		return err
	}
	inputs, err := bundle.Open(filepath.Join(settings.CacheDir, "inputs"))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Root: housekeeping.EngineDir(settings.CacheDir), Inputs: inputs.Blobs, Observe: show})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	cache := fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)
	l, err := choose(ctx, cache, settings)
	if err != nil {
		return err
	}
	state, err := compose(ctx, tree.New(e, inputs, cache, nil, "", progress.NewRecorder(progress.Options{})), inputs, l, program)
	if err != nil {
		return err
	}
	return export{epoch: l.Epoch, name: name}.write(ctx, e, state, output)
}

// choose locks the image's packages to what Debian's archive has now.
func choose(ctx context.Context, cache *fetch.Cache, settings host.Settings) (*lock.Lock, error) {
	release, ok := known.Tools("amd64")
	if !ok {
		return nil, errors.New("there is no release for amd64")
	}
	snapshot, err := packages.Take(ctx, cache, release, nil, settings.Now)
	if err != nil {
		return nil, err
	}
	l := &lock.Lock{Architecture: release.Architecture}
	for _, a := range snapshot.Archives {
		if a.Date.After(l.Epoch) {
			l.Epoch = a.Date
		}
	}
	if l.Tools.Packages, err = snapshot.Closure(release.Unpacker...); err != nil {
		return nil, err
	}
	if l.OS.Packages, err = snapshot.Closure(snapshot.Essential()...); err != nil {
		return nil, err
	}
	for i := range l.OS.Packages {
		l.OS.Packages[i].Ground = true
	}
	rest, err := snapshot.Closure(installed...)
	if err != nil {
		return nil, err
	}
	for _, p := range rest {
		if !slices.ContainsFunc(l.OS.Packages, func(o lock.Package) bool { return o.Name == p.Name }) {
			l.OS.Packages = append(l.OS.Packages, p)
		}
	}
	slices.SortFunc(l.OS.Packages, func(a, b lock.Package) int { return cmp.Compare(a.Name, b.Name) })
	return l, nil
}

// compose returns the image's root file system.
func compose(ctx context.Context, builder *tree.Builder, inputs *bundle.Store, l *lock.Lock, program string) (state llb.State, err error) {
	release, _ := known.Tools(l.Architecture)
	if state, err = builder.OS(ctx, release, release, l); err != nil {
		return state, err
	}
	if state, err = builder.Scripts(ctx, state, l.Epoch, tree.Script{Name: "make-user", Point: "final", Text: makeUser}); err != nil {
		return state, err
	}
	file, err := inputs.Content(ctx, "nodesmith", bundle.File{Name: "nodesmith", Mode: 0o755, Path: program})
	if err != nil {
		return state, err
	}
	return state.File(llb.Copy(file, "/nodesmith", "/usr/local/bin/nodesmith", &llb.CopyInfo{CreatedTime: &l.Epoch}),
		llb.WithCustomName("place nodesmith")), nil
}

// show says on standard error how steps end, and what they print.
func show(event *client.SolveStatus) {
	for _, v := range event.Vertexes {
		if v.Completed != nil && v.Error == "" {
			fmt.Fprintln(os.Stderr, "done:", v.Name)
		}
	}
	for _, log := range event.Logs {
		_, _ = os.Stderr.Write(log.Data)
	}
}
