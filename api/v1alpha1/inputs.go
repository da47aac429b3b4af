package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// Inputs are what a spec asks a lock for, by the lock's parts: the digest
// (sha256:HEX) of the fields that decide each. A lock that carries other ones
// is stale, and those of its parts whose digest is the same can stay.
type Inputs struct {
	// OS is the operating system and the archives that it comes from.
	OS string `json:"os"`
	// Packages are those on top of it, and the repositories.
	Packages string `json:"packages"`
	// ContainerImages are those that are pulled.
	ContainerImages string `json:"containerImages"`
	// Kubernetes is its version and what of it may be unverified.
	Kubernetes string `json:"kubernetes"`
}

// Inputs returns the digests of what decides the lock. The order of lists does
// not count, nor does a default written out: call it on a NodeImage that
// Validate returned.
func (img *NodeImage) Inputs() Inputs {
	spec := &img.Spec
	repositories := slices.Clone(spec.Repositories)
	for i := range repositories {
		repositories[i].BuildOnly = false // decides what the node knows, not what it has
	}
	type part struct { // what says nothing is left out
		Architecture string       `json:"architecture"`
		OS           OS           `json:"os,omitzero"`
		Archives     []Archive    `json:"archives,omitempty"`
		Repositories []Repository `json:"repositories,omitempty"`
		Packages     []string     `json:"packages,omitempty"`
		Images       []string     `json:"images,omitempty"`
		Kubernetes   Kubernetes   `json:"kubernetes,omitzero"`
		Unverified   []string     `json:"unverified,omitempty"`
	}
	digest := func(p part) string {
		p.Architecture = spec.Architecture
		data, _ := json.Marshal(p) // strings and booleans only: cannot fail
		sum := sha256.Sum256(data)
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	unverified := slices.Sorted(slices.Values(spec.AllowUnverified))
	return Inputs{
		OS:              digest(part{OS: spec.OS, Archives: spec.Source.OS.Packages.Archives}),
		Packages:        digest(part{Repositories: repositories, Packages: slices.Sorted(slices.Values(spec.Packages)), Unverified: unverified}),
		ContainerImages: digest(part{Images: spec.pulled()}),
		Kubernetes:      digest(part{Kubernetes: spec.Kubernetes, Unverified: unverified}),
	}
}

// pulled lists the container images that come from registries, by name.
func (spec *Spec) pulled() []string {
	var images []string
	for _, image := range spec.ContainerImages {
		if image.Archive == "" {
			images = append(images, image.Name+"@"+image.Digest)
		}
	}
	slices.Sort(images)
	return images
}
