package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// controlDir is where dpkg has a package's own files while it unpacks the package;
// debconf looks there for its questions.
const controlDir = adminDir + "/tmp.ci"

// runPreinst runs the preinst script of a package that was unpacked below root, the
// root of the running system but in tests, as dpkg runs it for a package that was never installed (Debian Policy 6.5). dpkg
// does so before the files are there, as debootstrap does not either for a system's
// first packages; a script that changes files of its own package is an error.
func runPreinst(ctx context.Context, root, file string) (err error) {
	record, err := readRecord(ctx, file)
	if err != nil {
		return err
	}
	before, err := record.unpackedFiles(root)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, controlDir)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := record.writeControl(dir); err != nil {
		return err
	}
	env := []string{
		"DPKG_MAINTSCRIPT_NAME=preinst", "DPKG_MAINTSCRIPT_PACKAGE=" + record.name, "DPKG_MAINTSCRIPT_ARCH=" + record.architecture,
		"DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1", "DPKG_MAINTSCRIPT_DEBUG=0", "DPKG_ADMINDIR=/" + adminDir, "DPKG_ROOT=", "INITRD=No",
	}
	if err := run(ctx, env, filepath.Join(dir, "preinst"), "install"); err != nil {
		return err
	}
	after, err := record.unpackedFiles(root)
	if err != nil {
		return err
	}
	for name, info := range before {
		now := after[name]
		if now != nil && now.Mode() == info.Mode() && (info.IsDir() || now.Size() == info.Size() && now.ModTime().Equal(info.ModTime())) {
			continue
		}
		return fmt.Errorf("its preinst script changed %s, a file of the package itself, which is unpacked already", name)
	}
	return nil
}

// unpackedFiles describes those of the package's files that are in its list and in
// the tree at root.
func (r *record) unpackedFiles(root string) (map[string]fs.FileInfo, error) {
	list, err := os.ReadFile(filepath.Join(root, infoDir, r.qualified+".list"))
	if err != nil {
		return nil, err
	}
	files := map[string]fs.FileInfo{}
	for line := range strings.Lines(string(list)) {
		name := strings.TrimSuffix(line, "\n")
		info, err := os.Lstat(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // left out, or a conffile
		}
		if err != nil {
			return nil, err
		}
		files[name] = info
	}
	return files, nil
}

// writeControl writes what the package says of itself into a directory.
func (r *record) writeControl(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "control"), append(r.control, '\n'), 0o644); err != nil {
		return err
	}
	for _, file := range r.files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file.header.Name)), file.content, file.header.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
