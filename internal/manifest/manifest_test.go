package manifest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/manifest/programs"
)

func TestTheManifestJoinsTheLockWithWhatWasBuilt(t *testing.T) {
	packageSet := func(names ...string) lock.PackageSet {
		var set lock.PackageSet
		for _, name := range names {
			set.Packages = append(set.Packages, lock.Package{Name: name, Version: "1", Architecture: "amd64", URL: "http://example.org/" + name})
		}
		return set
	}
	l := &lock.Lock{
		Architecture: "amd64", OS: packageSet("libc6", "bash"), Packages: packageSet("htop"),
		Infrastructures: []lock.Infrastructure{{Name: "aws", Packages: packageSet("awscli")}, {Name: "vsphere", Packages: packageSet("open-vm-tools")}},
		ContainerImages: []lock.PulledImage{{Name: "example.com/pulled:v1"}},
	}
	system := lock.Archive{URL: "http://example.org", Suite: "stable"}
	tools := lock.Archive{URL: "http://example.org/tools", Suite: "/"}
	l.OS.Archives, l.Packages.Archives = []lock.Archive{system}, []lock.Archive{system, tools}
	l.Packages.Packages = append(l.Packages.Packages, lock.Package{Name: "bash", Version: "2", Architecture: "amd64"})
	shared := programs.Module{Path: "example.org/shared", Version: "v1.0.0", Sum: "h1:a"}
	m := Manifest{Image: "node", Infrastructure: "vsphere"}
	m.AddLock(l)
	m.AddRecord(Record{
		Programs: []programs.Program{
			{Name: "kubelet", Component: "kubernetes", Modules: []programs.Module{shared}},
			{Name: "etcd", Component: "etcd", Modules: []programs.Module{shared, {Path: "example.org/fork", Version: "v2.0.0", Sum: "h1:b", Replaces: "example.org/shared"}}},
		},
		Images: []containerimage.Assembled{
			{Name: "registry.k8s.io/pause:3.10", Built: true}, {Name: "example.com/pulled:v1"},
			{Name: "example.com/brought:v1", Config: digest.FromString("c").String()},
		},
	}, l)
	var packages []string
	for _, p := range m.Packages {
		packages = append(packages, p.Name+" for "+p.For)
	}
	if want := []string{"bash for spec", "htop for spec", "libc6 for os", "open-vm-tools for infrastructure"}; !slices.Equal(packages, want) {
		t.Errorf("packages %q, want %q", packages, want)
	}
	if !slices.Equal(m.Archives, []lock.Archive{system, tools}) || m.Packages[0].Version != "2" {
		t.Errorf("archives %+v, packages %+v", m.Archives, m.Packages)
	}
	want := []GoModule{
		{Path: "example.org/fork", Version: "v2.0.0", Sum: "h1:b", Replaces: "example.org/shared", Programs: []string{"etcd"}},
		{Path: "example.org/shared", Version: "v1.0.0", Sum: "h1:a", Programs: []string{"etcd", "kubelet"}},
	}
	if !reflect.DeepEqual(m.GoModules, want) {
		t.Errorf("modules %+v, want %+v", m.GoModules, want)
	}
	var images []string
	for _, i := range m.ContainerImages {
		images = append(images, i.Name+" "+i.From)
	}
	if want := []string{"example.com/brought:v1 archive", "example.com/pulled:v1 registry", "registry.k8s.io/pause:3.10 built"}; !slices.Equal(images, want) {
		t.Errorf("images %q, want %q", images, want)
	}
}

func TestAWrittenManifestIsReadBackAsItWas(t *testing.T) {
	m := Manifest{Image: "node", OS: OS{"debian", "12", "bookworm"}, Customization: Customization{Files: []File{{Path: "/a&b", Mode: "0644"}}}}
	path := filepath.Join(t.TempDir(), "m.json")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"/a&b"`) {
		t.Fatalf("%s: %v", text, err)
	}
	back, err := Read(path)
	if err != nil || !reflect.DeepEqual(*back, m) {
		t.Errorf("got %+v, %v", back, err)
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for _, text := range []string{"", "[]", `{"apiVersion": "nodesmith.dev/manifest/v0", "kind": "Manifest"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); fault.KindOf(err) != fault.BadSpec {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Every field that a document has is described, and no other.
func TestEveryFieldIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/manifest.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(t reflect.Type, path string) []string
	walk = func(of reflect.Type, path string) []string {
		switch {
		case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			return walk(of.Elem(), path+"[]")
		case of.Kind() != reflect.Struct || of.PkgPath() == "time":
			return []string{path}
		}
		var paths []string
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			paths = append(paths, walk(f.Type, strings.TrimPrefix(path+"."+name, "."))...)
		}
		return paths
	}
	var described []string
	for line := range strings.Lines(string(text)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			path, _, _ := strings.Cut(cell, "`")
			described = append(described, path)
		}
	}
	if want := walk(reflect.TypeFor[Manifest](), ""); !slices.Equal(described, want) {
		t.Errorf("docs/manifest.md describes\n%q, the document has\n%q", described, want)
	}
}
