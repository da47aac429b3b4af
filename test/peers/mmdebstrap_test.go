package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func names(set []lock.Package) []string {
	var all []string
	for _, p := range set {
		all = append(all, p.Name)
	}
	return all
}

// mmdebstrap makes the same root file system in a folder: as root, from a local
// archive, without the files that nodesmith leaves out, and with the initramfs
// built once, as nodesmith builds it.
func (s *system) mmdebstrap(b *testing.B, archive, target string) {
	b.Helper()
	// In a mount namespace, with which its mounts end.
	args := []string{
		"--mount", "--propagation", "private", "mmdebstrap", "--mode=root", "--variant=essential",
		"--include=" + strings.Join(names(s.lock.OS.Packages), ","),
		"--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		`--customize-hook=chroot "$1" update-initramfs -c -k all`,
	}
	for _, pattern := range s.release.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	for _, pattern := range s.release.Include {
		args = append(args, "--dpkgopt=path-include="+pattern)
	}
	args = append(args, s.suite(), target, "deb [trusted=yes] file://"+archive+" "+s.suite()+" main")
	cmd := exec.CommandContext(b.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), "INITRD=No") // of the kernel's own hook
	ran(b, cmd)
	initrd, err := filepath.Glob(filepath.Join(target, "boot", "initrd.img-*"))
	if err != nil || len(initrd) != 1 {
		b.Fatalf("initramfs: %v, %v", initrd, err)
	}
}

// Both begin with the packages on the disk and nothing else: nodesmith with a lock
// and an empty engine, mmdebstrap with an archive on a path. mmdebstrap works in
// memory, nodesmith once there and once on the disk.
func BenchmarkRootFileSystem(b *testing.B) {
	testenv.Need(b, "mmdebstrap", "unshare")
	s := newSystem(b)
	archive := b.TempDir()
	s.localArchive(b, archive, s.lock.OS.Packages)
	what := fmt.Sprintf("root file system, %d packages", len(s.lock.OS.Packages))
	memory, disk := pairs{medium: "in-memory"}, pairs{medium: "on-disk"}
	for b.Loop() {
		var inMem, onDisk, theirs cost
		inMemory(b, func(dir string) { inMem = spent(b, func() { s.build(b, dir, false) }) })
		onDisk = spent(b, func() { s.build(b, b.TempDir(), false) })
		inMemory(b, func(dir string) {
			theirs = spent(b, func() { s.mmdebstrap(b, archive, filepath.Join(dir, "root")) })
		})
		memory.add(b, what, "mmdebstrap", inMem, theirs)
		disk.add(b, what, "mmdebstrap", onDisk, theirs)
	}
}
