// Package manifest is the document that says what went into an image.
//
// What comes in is the lock, what the build recorded of the programs that it
// compiled and the container images that it placed, and the spec's own files;
// what goes out is one JSON document. The same image gives the same document,
// byte by byte. docs/manifest.md describes every field.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/manifest/programs"
)

// The values of apiVersion and kind of the documents that this package writes.
const (
	APIVersion = "nodesmith.dev/manifest/v1alpha1"
	Kind       = "Manifest"
)

// Suffix takes the place of an image file's own in the name of its manifest.
const Suffix = ".manifest.json"

// Manifest says what is in one image for one infrastructure.
type Manifest struct {
	APIVersion     string `json:"apiVersion"`
	Kind           string `json:"kind"`
	Image          string `json:"image"`
	Infrastructure string `json:"infrastructure"`
	Architecture   string `json:"architecture"`
	OS             OS     `json:"os"`
	// Kubernetes is the version of every Kubernetes component: v1.34.0.
	Kubernetes string `json:"kubernetes"`
	// Nodesmith is the version of the program that built the image, Lock the
	// digest (sha256:...) of the lock that it was built from.
	Nodesmith string `json:"nodesmith"`
	Lock      string `json:"lock"`
	// Epoch is the newest time that a file of the image carries.
	Epoch           time.Time        `json:"epoch"`
	Archives        []lock.Archive   `json:"archives"`
	Packages        []Package        `json:"packages"`
	Programs        []Program        `json:"programs"`
	GoModules       []GoModule       `json:"goModules"`
	ContainerImages []ContainerImage `json:"containerImages"`
	Customization   Customization    `json:"customization"`
}

// OS is an operating system and its release.
type OS struct {
	Distro   string `json:"distro"`
	Version  string `json:"version"`
	Codename string `json:"codename"`
}

// Package is one package of the distribution's kind.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	// URL is where its publisher has it.
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	// For says what asked for it: os, spec or infrastructure.
	For string `json:"for"`
}

// Program is one that was compiled from source.
type Program struct {
	Name      string `json:"name"`
	Component string `json:"component"` // kubernetes, etcd, ...
	SHA256    string `json:"sha256"`
	// Module is the main package's, Version that module's, Go the toolchain's
	// (go1.24.6): what the program itself says; empty for C.
	Module  string `json:"module,omitempty"`
	Version string `json:"version,omitempty"`
	Go      string `json:"go,omitempty"`
}

// GoModule is a module whose code is in programs.
type GoModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	// Sum is the module's checksum as in go.sum.
	Sum string `json:"sum"`
	// Replaces is the module that it stands in for.
	Replaces string `json:"replaces,omitempty"`
	// Programs are the names of those that hold it.
	Programs []string `json:"programs"`
}

// ContainerImage is one in the node's containerd store.
type ContainerImage struct {
	Name string `json:"name"`
	// Digest is that of the manifest, or of the list of manifests, that the name
	// stands for; Config that of the configuration, CRI's image ID.
	Digest string `json:"digest"`
	Config string `json:"config"`
	// From says where it is from: built, registry or archive.
	From string `json:"from"`
}

// Customization is what the spec itself put into the image.
type Customization struct {
	Files   []File   `json:"files"`
	Links   []Link   `json:"links"`
	Scripts []Script `json:"scripts"`
	Users   []string `json:"users"`
}

// File is a regular file of the spec, as its configuration writes it.
type File struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`  // "0644"
	Owner  string `json:"owner"` // root:root
	Size   int64  `json:"size"`  // bytes
	SHA256 string `json:"sha256"`
}

// Link is a symbolic link.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Script is one that changed the tree while it was built, or that a node runs.
type Script struct {
	Name   string `json:"name"`
	When   string `json:"when"`
	SHA256 string `json:"sha256"`
}

// Record is what the build noted of its own work.
type Record struct {
	Programs []programs.Program
	Images   []containerimage.Assembled
}

// AddLock fills in what the lock says of an image for one infrastructure.
func (m *Manifest) AddLock(l *lock.Lock) {
	m.Architecture, m.Kubernetes, m.Epoch = l.Architecture, l.Kubernetes.Version, l.Epoch
	infrastructure, _ := l.Infrastructure(m.Infrastructure)
	for _, set := range []struct {
		of    string
		added lock.PackageSet
	}{{"os", l.OS}, {"spec", l.Packages}, {"infrastructure", infrastructure.Packages}} {
		for _, archive := range set.added.Archives {
			if !slices.Contains(m.Archives, archive) {
				m.Archives = append(m.Archives, archive)
			}
		}
		for _, p := range set.added.Packages {
			// A repository of the spec may have a newer one than the system.
			m.Packages = slices.DeleteFunc(m.Packages, func(older Package) bool { return older.Name == p.Name })
			m.Packages = append(m.Packages, Package{p.Name, p.Version, p.Architecture, p.URL, p.SHA256, set.of})
		}
	}
	slices.SortFunc(m.Packages, func(a, b Package) int { return strings.Compare(a.Name+":"+a.Architecture, b.Name+":"+b.Architecture) })
}

// AddRecord fills in the programs, Go modules and container images of a build.
// l tells where the images are from.
func (m *Manifest) AddRecord(r Record, l *lock.Lock) {
	holders := map[moduleKey][]string{}
	sums := map[moduleKey]string{}
	for _, p := range r.Programs {
		m.Programs = append(m.Programs, Program{p.Name, p.Component, p.SHA256, p.Module, p.Version, p.Go})
		for _, module := range p.Modules {
			key := moduleKey{module.Path, module.Version, module.Replaces}
			holders[key] = append(holders[key], p.Name)
			sums[key] = module.Sum
		}
	}
	for key, names := range holders {
		slices.Sort(names)
		m.GoModules = append(m.GoModules, GoModule{key.path, key.version, sums[key], key.replaces, slices.Compact(names)})
	}
	slices.SortFunc(m.GoModules, func(a, b GoModule) int {
		return strings.Compare(a.Path+"@"+a.Version+" "+a.Replaces, b.Path+"@"+b.Version+" "+b.Replaces)
	})
	slices.SortFunc(m.Programs, func(a, b Program) int { return strings.Compare(a.Name, b.Name) })
	for _, image := range r.Images {
		m.ContainerImages = append(m.ContainerImages, ContainerImage{image.Name, image.Manifest.Digest.String(), image.Config, from(image, l)})
	}
	slices.SortFunc(m.ContainerImages, func(a, b ContainerImage) int { return strings.Compare(a.Name, b.Name) })
}

// moduleKey tells modules apart.
type moduleKey struct{ path, version, replaces string }

// from says where an image of the store comes from.
func from(image containerimage.Assembled, l *lock.Lock) string {
	switch {
	case image.Built:
		return "built"
	case slices.ContainsFunc(l.ContainerImages, func(p lock.PulledImage) bool { return p.Name == image.Name }):
		return "registry"
	}
	return "archive"
}

// Read reads a document. A missing file is an error that wraps fs.ErrNotExist.
func Read(path string) (*Manifest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads a document; name is what errors call it.
func Parse(name string, data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fault.New(fault.BadSpec, "build the image again, or remove the file", "manifest %s: %w", name, err)
	}
	if m.APIVersion != APIVersion || m.Kind != Kind {
		return nil, fault.New(fault.BadSpec, "build the image again, or remove the file",
			"manifest %s: apiVersion %q and kind %q, not %q and %q", name, m.APIVersion, m.Kind, APIVersion, Kind)
	}
	return &m, nil
}

// Marshal returns the document.
func (m *Manifest) Marshal() ([]byte, error) {
	m.APIVersion, m.Kind = APIVersion, Kind
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return text.Bytes(), nil
}

// Write writes the document to path, whole or not at all.
func (m *Manifest) Write(path string) error {
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(path, "", data, 0o644); err != nil {
		return fault.NoSpaceOr(fmt.Errorf("writing %s: %w", path, err))
	}
	return nil
}
