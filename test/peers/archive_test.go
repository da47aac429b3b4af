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
	for _, p := range set {
		if err := copyFile(s.downloads.Path(p.SHA256), filepath.Join(dir, "pool", packages.Name(p))); err != nil {
			b.Fatal(err)
		}
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
		err = write(filepath.Join(dir, file), out, 0o644)
	}
	if err != nil {
		b.Fatal(fmt.Errorf("index the archive %s: %w", dir, err))
	}
}

func write(path string, data []byte, mode os.FileMode) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, mode))
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from) // a package: some megabytes
	if err != nil {
		return err
	}
	return write(to, data, 0o644)
}
