package peers

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/vmtest"
)

// lacking are the packages of a node that Debian's cloud images of the release do not
// have (package_config of debian-cloud-images), so that cloud-init has to install
// them. Of the node's others, chrony is not in all of these images: here it is.
var lacking = []string{"conntrack", "nftables", "ebtables", "ipset", "auditd", "jq"}

// plainSystem is a Debian as it comes from a cloud: a qcow2 file that mkosi made, and
// the archive of all packages of the node, from which it was made.
type plainSystem struct{ path, archive string }

// plain makes one. Its packages have the versions of the node's, and their manuals are
// left out as there. By mkosi, and not by nodesmith from the same tree, so that the
// other side is nobody's own; and in the format that the node's image has.
func (s *system) plain(b *testing.B) plainSystem {
	b.Helper()
	packages := slices.DeleteFunc(slices.Clone(s.release.Packages), func(name string) bool { return slices.Contains(lacking, name) })
	if len(packages)+len(lacking) != len(s.release.Packages) {
		b.Fatalf("not all of %q are packages of a node", lacking)
	}
	tools, work := mkosiTree(b), tmpfs(b)
	s.fillWork(b, work)
	if err := os.CopyFS(work, os.DirFS("testdata/plain")); err != nil {
		b.Fatal(err)
	}
	disk := s.mkosi(b, tools, work, packages)
	p := plainSystem{path: zstd(b, disk, b.TempDir(), "plain"), archive: filepath.Join(work, "archive")}
	if err := os.Remove(disk); err != nil { // it lies in memory
		b.Fatal(err)
	}
	return p
}

// zstd packs a raw disk as nodesmith packs its own, in a folder.
func zstd(b *testing.B, disk, dir, name string) string {
	b.Helper()
	return nodesmith(b, "convert", disk, "--from", "raw", "--to", "qcow2", "-o", dir, "--name", name, "--cache=false")
}

// guestServer is where a guest finds the server, on its own network.
const guestServer = "10.0.2.100"

// installing is a script that installs everything that a node is before it goes on.
func (s *system) installing(b *testing.B, script vmtest.Script) vmtest.Script {
	b.Helper()
	var filters strings.Builder
	for _, pattern := range s.release.Exclude {
		fmt.Fprintln(&filters, "path-exclude="+pattern)
	}
	for _, pattern := range s.release.Include {
		fmt.Fprintln(&filters, "path-include="+pattern)
	}
	script.Files, script.Env = maps.Clone(script.Files), maps.Clone(script.Env)
	script.Files["install.sh"] = guestScript(b, "install.sh")
	script.Files["dpkg.cfg"] = []byte(filters.String())
	maps.Copy(script.Env, map[string]string{
		"INSTALL": "install.sh", "SERVER": guestServer, "SUITE": s.suite(),
		"PACKAGES": strings.Join(names(s.lock.OS.Packages), " "),
	})
	return script
}

// guestScript reads one of the scripts that run in guests.
func guestScript(b *testing.B, name string) []byte {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "node", name))
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// installed packs, in a folder, the disk that a plain system became with what an
// overlay has of it.
func (p plainSystem) installed(b *testing.B, overlay, dir string) string {
	b.Helper()
	source := fmt.Sprintf("driver=qcow2,file.driver=file,file.filename=%s,backing.driver=qcow2,backing.file.driver=file,backing.file.filename=%s",
		overlay, p.path)
	raw := filepath.Join(dir, "installed.raw")
	ran(b, exec.CommandContext(b.Context(), "qemu-img", "convert", "--image-opts", source, "-O", "raw", raw))
	return zstd(b, raw, dir, "installed")
}
