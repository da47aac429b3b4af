package diff

import (
	"fmt"
	"strings"

	"nodesmith.dev/nodesmith/internal/manifest"
)

// Manifests compares what two manifests say; a and b name them.
func Manifests(a, b string, left, right *manifest.Manifest) *Report {
	r := &Report{APIVersion: APIVersion, Kind: ReportKind, A: a, B: b, Equal: true}
	for _, s := range manifestSections {
		r.add(s.name, s.of(left), s.of(right))
	}
	return r
}

// manifestSections are the parts of a manifest that are compared.
var manifestSections = []struct {
	name string
	of   func(*manifest.Manifest) map[string]string
}{
	{"image", func(m *manifest.Manifest) map[string]string {
		return map[string]string{
			"name": m.Image, "infrastructure": m.Infrastructure, "architecture": m.Architecture, "kubernetes": m.Kubernetes,
			"os":        strings.TrimSpace(m.OS.Distro + " " + m.OS.Version + " " + m.OS.Codename),
			"nodesmith": m.Nodesmith, "lock": m.Lock, "epoch": m.Epoch.String(),
		}
	}},
	{"archives", func(m *manifest.Manifest) map[string]string {
		out := map[string]string{}
		for _, a := range m.Archives {
			out[a.URL+" "+a.Suite] = fmt.Sprintf("%v %s", a.Date, a.Release)
		}
		return out
	}},
	{"packages", func(m *manifest.Manifest) map[string]string {
		out := map[string]string{}
		for _, p := range m.Packages {
			out[p.Name] = p.Version
		}
		return out
	}},
	{"programs", func(m *manifest.Manifest) map[string]string {
		out := map[string]string{}
		for _, p := range m.Programs {
			out[p.Name] = strings.TrimSpace(strings.Join([]string{p.Version, p.Go, p.SHA256}, " "))
		}
		return out
	}},
	{"go modules", func(m *manifest.Manifest) map[string]string {
		out := map[string]string{}
		for _, g := range m.GoModules {
			for _, program := range g.Programs {
				out[g.Path+" in "+program] = g.Version
			}
		}
		return out
	}},
	{"container images", func(m *manifest.Manifest) map[string]string {
		out := map[string]string{}
		for _, i := range m.ContainerImages {
			out[i.Name] = i.Digest
		}
		return out
	}},
	{"customization", customization},
}

// customization is what the spec itself put into the image.
func customization(m *manifest.Manifest) map[string]string {
	out := map[string]string{}
	for _, f := range m.Customization.Files {
		out["file "+f.Path] = strings.Join([]string{f.Mode, f.Owner, f.SHA256}, " ")
	}
	for _, l := range m.Customization.Links {
		out["link "+l.Path] = l.Target
	}
	for _, s := range m.Customization.Scripts {
		out["script "+s.Name] = s.When + " " + s.SHA256
	}
	for _, u := range m.Customization.Users {
		out["user "+u] = ""
	}
	return out
}
