package peers

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// system is an operating system whose packages are all downloaded.
type system struct {
	lock           *lock.Lock
	release, tools distro.Release
	settings       host.Settings
	downloads      *fetch.Cache
}

// newSystem locks the example and downloads its packages.
func newSystem(b *testing.B) *system {
	b.Helper()
	testenv.NeedRoot(b)
	testenv.Need(b, "runc")
	settings, err := host.Read()
	if err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), "../../bin/nodesmith", "lock", "-f", "../../examples/debian-12.yaml", "-o", b.TempDir(), "--progress", "quiet").Output()
	if err != nil {
		b.Fatal(err)
	}
	s := &system{settings: settings, downloads: fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)}
	if s.lock, err = lock.Read(strings.TrimSpace(string(out))); err != nil {
		b.Fatal(err)
	}
	s.release, _ = known.Release("debian", "12", "amd64")
	s.tools, _ = known.Release("debian", "13", "amd64")
	for _, set := range [][]lock.Package{s.lock.OS.Packages, s.lock.Tools.Packages} {
		if _, err := packages.Fetch(b.Context(), s.downloads, set); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// build makes the root file system, or with a disk also that, on an engine that
// has built nothing, in a folder.
func (s *system) build(ctx context.Context, dir string, withDisk bool) (err error) {
	inputs, err := bundle.Open(filepath.Join(dir, "inputs"))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Root: filepath.Join(dir, "engine"), Inputs: inputs.Blobs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	builder := tree.New(e, inputs, s.downloads, nil, "", progress.NewRecorder(progress.Options{}))
	root, err := builder.OS(ctx, s.tools, s.release, s.lock)
	if err != nil || !withDisk {
		return errors.Join(err, e.Solve(ctx, "root file system", root))
	}
	tools, err := builder.Tools(ctx, s.tools, s.lock)
	if err != nil {
		return err
	}
	layout := disk.Layout([]string{"bios", "uefi"}, nil, disk.RootFileSystem(0))
	state, err := builder.Disk(ctx, "disk", s.release, tools, root, tree.Kubernetes{},
		disk.Config{Size: 4 * size.GiB, Identifiers: disk.IdentifiersFrom("peers"), Partitions: layout}, s.lock)
	if err != nil {
		return err
	}
	out := filepath.Join(dir, "out")
	return errors.Join(os.Mkdir(out, 0o755), e.Export(ctx, "disk", state, out))
}

// tmpfs returns a folder in memory.
func tmpfs(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4g,mode=755"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// ran runs a program that has to succeed.
func ran(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}
