package golang

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

// ErrChecksum is in the chain of the error for a zip file that is not the locked
// one. It has no kind of package fault: see package stepmain.
var ErrChecksum = errors.New("the zip file's checksum does not hold")

// maxSource bounds a file that ReadFile returns, in bytes.
const maxSource = 16 << 20

// ReadFile returns the file name of module m from its zip file. The error for
// a name that the zip file lacks satisfies errors.Is(err, fs.ErrNotExist).
func ReadFile(zipFile string, m module.Version, name string) ([]byte, error) {
	r, err := zip.OpenReader(zipFile)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	want := m.Path + "@" + m.Version + "/" + name
	for _, f := range r.File {
		if f.Name != want {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		data, err := io.ReadAll(io.LimitReader(in, maxSource+1))
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", name, m, err)
		}
		if len(data) > maxSource {
			return nil, fmt.Errorf("%s in %s is larger than %d bytes", name, m, maxSource)
		}
		return data, nil
	}
	return nil, fmt.Errorf("%s has no file %s: %w", m, name, fs.ErrNotExist)
}

// Unpack writes the toolchain module m from its zip file into dir, which must
// be empty or missing, after checking that the zip file's checksum is sum (h1).
// Paths that would leave dir are refused. Files and directories get the time
// epoch, if it is not zero.
func Unpack(zipFile string, m module.Version, sum, dir string, epoch time.Time) error {
	if err := verify(zipFile, m, sum); err != nil {
		return err
	}
	if err := modzip.Unzip(dir, m, zipFile); err != nil {
		return err
	}
	return setModes(dir, epoch)
}

// verify compares the checksum of m's zip file with the one in the lock.
func verify(zipFile string, m module.Version, sum string) error {
	got, err := dirhash.HashZip(zipFile, dirhash.Hash1)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", m, ErrChecksum, err)
	}
	if got != sum {
		return fmt.Errorf("%s: %w: it is %s, not %s as locked", m, ErrChecksum, got, sum)
	}
	return nil
}

// setModes gives the files of a toolchain their modes, for module zips carry
// none, and their times.
func setModes(dir string, epoch time.Time) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() || executable(dir, file) {
			mode = 0o755
		}
		if err := os.Chmod(file, mode); err != nil || epoch.IsZero() {
			return err
		}
		return os.Chtimes(file, epoch, epoch)
	})
}

// executable reports whether a toolchain's file is a program: the same two
// directories that the go command treats so (cmd/go/internal/toolchain).
func executable(dir, file string) bool {
	rel, err := filepath.Rel(dir, file)
	if err != nil {
		return false
	}
	rel = filepath.ToSlash(rel)
	return strings.HasPrefix(rel, "bin/") || strings.HasPrefix(rel, "pkg/tool/")
}
