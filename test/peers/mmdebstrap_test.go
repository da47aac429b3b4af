package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// localArchive returns a folder that apt takes for an archive of these packages
// and no others.
func (s *system) localArchive(b *testing.B, set []lock.Package) string {
	b.Helper()
	testenv.Need(b, "apt-ftparchive")
	dir := b.TempDir()
	for _, p := range set {
		if err := os.Symlink(s.downloads.Path(p.SHA256), filepath.Join(dir, packages.Name(p))); err != nil {
			b.Fatal(err)
		}
	}
	for name, what := range map[string]string{"Packages": "packages", "Release": "release"} {
		cmd := exec.CommandContext(b.Context(), "apt-ftparchive", what, ".")
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), out, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

func names(set []lock.Package) string {
	var all []string
	for _, p := range set {
		all = append(all, p.Name)
	}
	return strings.Join(all, ",")
}

// mmdebstrap makes the same root file system in a folder: as root, from a local
// archive, with the initramfs built once, as nodesmith builds it.
func (s *system) mmdebstrap(b *testing.B, archive, target string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "mmdebstrap", "--mode=root", "--variant=essential", "--include="+names(s.lock.OS.Packages),
		"--customize-hook=chroot \"$1\" update-initramfs -c -k all", s.release.Archives[0].Suite, target, "deb [trusted=yes] file://"+archive+" ./")
	cmd.Env = append(os.Environ(), "INITRD=No") // of the kernel's own hook
	ran(b, cmd)
	initrd, err := filepath.Glob(filepath.Join(target, "boot", "initrd.img-*"))
	if err != nil || len(initrd) != 1 {
		b.Fatalf("initramfs: %v, %v", initrd, err)
	}
}

// Both begin with the packages on the disk and nothing else: nodesmith with a lock
// and an empty engine, mmdebstrap with an archive on a path.
func BenchmarkRootFileSystem(b *testing.B) {
	testenv.Need(b, "mmdebstrap")
	s := newSystem(b)
	archive := s.localArchive(b, s.lock.OS.Packages)
	var ours, theirs time.Duration
	for i := 0; b.Loop(); i++ {
		dir := b.TempDir()
		start := time.Now()
		if err := s.build(b.Context(), dir, false); err != nil {
			b.Fatal(err)
		}
		built := time.Since(start)
		target := filepath.Join(tmpfs(b), "root")
		start = time.Now()
		s.mmdebstrap(b, archive, target)
		bootstrapped := time.Since(start)
		fmt.Printf("root file system, %d packages: nodesmith %.1f s, mmdebstrap %.1f s: %.2f\n",
			len(s.lock.OS.Packages), built.Seconds(), bootstrapped.Seconds(), built.Seconds()/bootstrapped.Seconds())
		ours, theirs = ours+built, theirs+bootstrapped
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "of-mmdebstrap")
}
