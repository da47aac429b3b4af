package node

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var record = flag.Bool("record", false, "write the golden files instead of comparing with them")

// debian is the node that the golden file holds.
var debian = Params{
	Family:            "debian",
	KubernetesVersion: "v1.34.0",
	ContainerdConfig:  3,
	SandboxImage:      "registry.k8s.io/pause:3.10.1",
	Image:             "debian-12",
	NodesmithVersion:  "v0.1.0",
	LockDigest:        "sha256:" + strings.Repeat("0", 64),
}

func TestBaseIsTheGoldenConfiguration(t *testing.T) {
	c, err := Base(debian)
	if err != nil {
		t.Fatal(err)
	}
	got := encode(t, c)
	golden := filepath.Join("testdata", "debian-v1.34.0.json")
	if *record {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("recorded; run again without -record")
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the node's configuration changed; look at the difference after \"go test ./internal/node -record\"")
	}
}

func TestBaseIsValidForEveryContainerdConfig(t *testing.T) {
	for version, want := range map[int]string{
		2: `sandbox_image = "registry.k8s.io/pause:3.10.1"`,
		3: `sandbox = "registry.k8s.io/pause:3.10.1"`,
	} {
		p := debian
		p.ContainerdConfig = version
		c, err := Base(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		i := slices.IndexFunc(c.Files, func(f File) bool { return f.Path == "/etc/containerd/config.toml" })
		if i < 0 || !strings.Contains(c.Files[i].Content, want) || !strings.Contains(c.Files[i].Content, "SystemdCgroup = true") {
			t.Errorf("config version %d lacks %q", version, want)
		}
	}
}

func TestBaseRefusesWhatItHasNoFilesFor(t *testing.T) {
	tests := map[string]struct {
		change func(*Params)
		want   string
	}{
		"family":             {func(p *Params) { p.Family = "photon" }, "there are: debian"},
		"containerd config":  {func(p *Params) { p.ContainerdConfig = 1 }, "containerd-config-1"},
		"version without v":  {func(p *Params) { p.KubernetesVersion = "1.34.0" }, "such as v1.34.0"},
		"no sandbox image":   {func(p *Params) { p.SandboxImage = "" }, "sandbox image"},
		"quotes in a name":   {func(p *Params) { p.Image = `a"; rm -rf /; "` }, "does not match"},
		"newline in a name":  {func(p *Params) { p.LockDigest = "sha256:0\nX=1" }, "does not match"},
		"quotes in an image": {func(p *Params) { p.SandboxImage = `x" y` }, "does not match"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := debian
			tt.change(&p)
			if _, err := Base(p); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}
