package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// localArchive makes dir an archive of these packages and no others, under the
// name of the release's suite.
func (s *system) localArchive(b *testing.B, dir string, set []lock.Package) {
	b.Helper()
	testenv.Need(b, "apt-ftparchive")
	pool := filepath.Join(dir, "pool")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, p := range set {
		testenv.CopyFile(b, s.downloads.Path(p.SHA256), filepath.Join(pool, packages.Name(p)), 0o644)
	}
	suite := filepath.Join("dists", s.suite())
	index := filepath.Join(suite, "main", "binary-"+s.release.Architecture)
	ftparchive(b, dir, filepath.Join(index, "Packages"), "packages", "pool")
	ftparchive(b, dir, filepath.Join(suite, "Release"),
		"-o", "APT::FTPArchive::Release::Codename="+s.suite(), "-o", "APT::FTPArchive::Release::Suite="+s.suite(),
		"-o", "APT::FTPArchive::Release::Components=main", "-o", "APT::FTPArchive::Release::Architectures="+s.release.Architecture,
		"release", suite)
}

// suite is the name of the release's own archive.
func (s *system) suite() string { return s.release.Archives[0].Suite }

// ftparchive writes what apt-ftparchive prints to a file below dir.
func ftparchive(b *testing.B, dir, file string, args ...string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "apt-ftparchive", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err == nil {
		path := filepath.Join(dir, file)
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, out, 0o644))
	}
	if err != nil {
		b.Fatal(fmt.Errorf("index the archive %s: %w", dir, err))
	}
}
