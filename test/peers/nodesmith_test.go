package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/grub"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/node"
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

// example is the spec whose operating system and image are compared.
const example = "../../examples/debian-12.yaml"

// nodesmith runs the program as a user would and returns what it printed.
func nodesmith(b *testing.B, args ...string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "../../bin/nodesmith", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("nodesmith %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// newSystem locks the example and downloads its packages.
func newSystem(b *testing.B) *system {
	b.Helper()
	testenv.NeedRoot(b)
	testenv.Need(b, "runc")
	return openSystem(b, nodesmith(b, "lock", "-f", example, "-o", b.TempDir(), "--progress", "quiet"))
}

// openSystem reads a lock of the example and downloads its packages.
func openSystem(b *testing.B, path string) *system {
	b.Helper()
	settings, err := host.Read()
	if err != nil {
		b.Fatal(err)
	}
	s := &system{settings: settings, downloads: fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)}
	if s.lock, err = lock.Read(path); err != nil {
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

// build makes the root file system on an engine that has built nothing, in a
// folder; or a raw disk of it, which then is the folder's diskFile. It prints when
// each step ran.
func (s *system) build(b *testing.B, dir string, withDisk bool) {
	b.Helper()
	began := time.Now()
	record := progress.NewRecorder(progress.Options{StageOf: tree.StageOf})
	if err := s.solve(b.Context(), dir, withDisk, record); err != nil {
		b.Fatal(err)
	}
	for _, step := range record.Steps() {
		if took := step.Completed.Sub(step.Started); step.Ran() && took > 100*time.Millisecond {
			fmt.Printf("    %5.1f s from %4.1f s on  %s\n", took.Seconds(), step.Started.Sub(began).Seconds(), step.Name)
		}
	}
}

func (s *system) solve(ctx context.Context, dir string, withDisk bool, record *progress.Recorder) (err error) {
	inputs, err := bundle.Open(filepath.Join(dir, "inputs"))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Root: filepath.Join(dir, "engine"), Inputs: inputs.Blobs, Observe: record.Add})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	builder := tree.New(e, inputs, s.downloads, nil, "", record)
	root, err := builder.OS(ctx, s.tools, s.release, s.lock)
	if err != nil {
		return err
	}
	if !withDisk {
		return e.Solve(ctx, "root file system", root)
	}
	assembled, err := s.disk(ctx, builder, root)
	if err != nil {
		return err
	}
	return builder.Read(ctx, tree.Reading{Title: "disk"}, assembled, dir, func(disk format.Source) error {
		_, err := format.Converter{}.Convert(ctx, disk, []format.Target{{Path: filepath.Join(dir, diskFile), New: raw.New}})
		return err
	})
}

// diskFile is the name of the disk that build makes.
const diskFile = "disk.raw"

// disk is a disk that boots on BIOS and UEFI, of the root file system, its boot
// loader's menu and its fstab.
func (s *system) disk(ctx context.Context, builder *tree.Builder, root llb.State) (assembled tree.Disk, err error) {
	config := disk.Config{
		Size: 4 * size.GiB, Identifiers: disk.IdentifiersFrom("peers"),
		Partitions: disk.Layout([]string{"bios", "uefi"}, nil, disk.RootFileSystem(0)),
	}
	menu, menuErr := grub.Config(grub.Menu{
		Title: s.release.Title, RootUUID: config.Identifiers.RootUUID(), Arguments: []string{"console=tty0", "console=ttyS0,115200n8"},
		Kernel: s.release.Boot.Kernel, Initrd: s.release.Boot.Initrd,
	})
	fstab, fstabErr := disk.Fstab(config.Partitions, config.Identifiers)
	if err := errors.Join(menuErr, fstabErr); err != nil {
		return assembled, err
	}
	tools, err := builder.Tools(ctx, s.tools, s.lock)
	if err != nil {
		return assembled, err
	}
	root, err = builder.Node(ctx, root, node.Config{
		Directories: []node.Directory{{Path: "/boot/efi"}},
		Files: []node.File{
			{Path: "/boot/grub/grub.cfg", Content: string(menu)},
			{Path: "/etc/fstab", Content: string(fstab)},
		},
	}, nil, s.lock)
	if err != nil {
		return assembled, err
	}
	return builder.Disk(ctx, "qemu: assemble disk", s.release, tools, root, tree.Kubernetes{}, config, s.lock)
}

// tmpfs returns a folder in memory.
func tmpfs(b *testing.B) string {
	b.Helper()
	dir, release := newMemory(b)
	b.Cleanup(release)
	return dir
}

// inMemory calls run with a folder in memory, which is gone afterwards.
func inMemory(b *testing.B, run func(dir string)) {
	b.Helper()
	dir, release := newMemory(b)
	defer release()
	run(dir)
}

func newMemory(b *testing.B) (dir string, release func()) {
	b.Helper()
	dir = b.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8g,mode=755"); err != nil {
		b.Fatal(err)
	}
	return dir, func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			b.Error(err)
		}
	}
}

// ran runs a program that has to succeed.
func ran(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}
