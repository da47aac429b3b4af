package registry

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
)

// published is a list of images for amd64 and arm64 in a registry on loopback.
type published struct {
	name   string
	list   v1.ImageIndex
	images map[string]v1.Image // by architecture
	server *httptest.Server
}

func publish(t *testing.T) published {
	t.Helper()
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	p := published{name: strings.TrimPrefix(server.URL, "http://") + "/team/agent:v1", images: map[string]v1.Image{}, server: server}
	var entries []mutate.IndexAddendum
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := random.Image(100_000, 3)
		if err != nil {
			t.Fatal(err)
		}
		p.images[architecture] = image
		entries = append(entries, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	p.list = mutate.AppendManifests(randomIndex(t), entries...)
	reference, err := name.ParseReference(p.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(reference, p.list); err != nil {
		t.Fatal(err)
	}
	return p
}

func randomIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := random.Index(1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestTheImageOfTheArchitectureIsLockedAndPulled(t *testing.T) {
	p := publish(t)
	for _, want := range []string{"", digestOf(t, p.list), digestOf(t, p.images["arm64"])} {
		locked, err := Lock(t.Context(), p.name, want, "arm64")
		if err != nil {
			t.Fatal(err)
		}
		if locked.Name != p.name || locked.Digest != digestOf(t, p.images["arm64"]) || locked.Size < 300_000 {
			t.Errorf("locked %+v", locked)
		}
	}
	locked, err := Lock(t.Context(), p.name, "", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	folder, err := Fetch(t.Context(), dir, locked, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != locked.Digest {
		t.Errorf("the folder holds %+v, %v", manifest, err)
	}
	p.server.Close()
	if again, err := Fetch(t.Context(), dir, locked, "arm64"); err != nil || again != folder {
		t.Errorf("without the registry: %s, %v", again, err)
	}
}

func TestWhatCannotBePulledIsSaid(t *testing.T) {
	p := publish(t)
	for _, c := range []struct {
		about, image, digest, architecture string
		kind                               fault.Kind
	}{
		{"another digest", p.name, "sha256:" + strings.Repeat("0", 64), "amd64", fault.Unverifiable},
		{"a tag that is not there", strings.TrimSuffix(p.name, "v1") + "v2", "", "amd64", fault.BadSpec},
		{"an architecture that is not there", p.name, "", "riscv64", fault.BadSpec},
		{"no registry", "127.0.0.1:1/team/agent:v1", "", "amd64", fault.Network},
		{"no name", "::", "", "amd64", fault.BadSpec},
	} {
		t.Run(c.about, func(t *testing.T) {
			_, err := Lock(t.Context(), c.image, c.digest, c.architecture)
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.image) {
				t.Errorf("%s: %v", fault.KindOf(err), err)
			}
		})
	}
}

func TestAFailedPullLeavesNothing(t *testing.T) {
	p := publish(t)
	dir := t.TempDir()
	gone := lock.PulledImage{Name: p.name, Digest: "sha256:" + strings.Repeat("0", 64)}
	if _, err := Fetch(t.Context(), dir, gone, "amd64"); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("an image that is gone: %v", err)
	}
	locked, err := Lock(t.Context(), p.name, "", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p.server.Close()
	if _, err := Fetch(t.Context(), dir, locked, "amd64"); fault.KindOf(err) != fault.Network {
		t.Errorf("a registry that is gone: %v", err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "sha256", "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, "sha256", ".*"))
	if err != nil || len(found)+len(hidden) > 0 {
		t.Errorf("left %q %q, %v", found, hidden, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
