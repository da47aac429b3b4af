package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// The image itself is the judge: its package database and its programs.
func TestTheManifestSaysWhatIsInTheImage(t *testing.T) {
	testenv.NeedRoot(t)
	text, err := os.ReadFile(filepath.Join(built, "debian-12-qemu.manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	disk, err := os.Open(raw())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	image, err := imagefs.Open(disk, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, p := range m.Packages {
		said = append(said, p.Name+" "+p.Version+" "+p.Architecture)
	}
	slices.Sort(said)
	if installed := installedIn(t, image.Tree); !slices.Equal(said, installed) {
		t.Errorf("the manifest has %d packages, the image %d:\n%q\n%q", len(said), len(installed), said, installed)
	}
	paths := map[string]string{"kubelet": "/usr/bin/kubelet", "containerd": "/usr/local/bin/containerd", "runc": "/usr/local/sbin/runc"}
	for _, p := range m.Programs {
		if path := paths[p.Name]; path != "" {
			delete(paths, p.Name)
			if sum := digestIn(t, image.Tree, path); sum != p.SHA256 || p.Go == "" {
				t.Errorf("%s is %s, the manifest has %+v", path, sum, p)
			}
		}
	}
	if len(paths) > 0 || len(m.GoModules) < 300 || len(m.ContainerImages) != 7 {
		t.Errorf("no word of %v; %d Go modules, %d container images", paths, len(m.GoModules), len(m.ContainerImages))
	}
}

// installedIn lists the packages that dpkg knows of in a tree.
func installedIn(t *testing.T, tree *imagefs.Tree) []string {
	t.Helper()
	status, err := tree.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	var installed []string
	err = deb.Stanzas(bytes.NewReader(status), func(s deb.Stanza) (bool, error) {
		if s["Status"] == "install ok installed" {
			installed = append(installed, s["Package"]+" "+s["Version"]+" "+s["Architecture"])
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(installed)
	return installed
}

func digestIn(t *testing.T, tree *imagefs.Tree, path string) string {
	t.Helper()
	content, err := tree.Content(path)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
