package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// InputsDigest returns the digest (sha256:HEX) of what decides the lock: the
// operating system, the Kubernetes version, the architecture, the archives and
// repositories, the packages, the container images that are pulled and what may
// enter unverified. A lock that carries another digest is stale. The order of
// lists does not count, nor does a default written out: call it on a NodeImage
// that Validate returned.
func (img *NodeImage) InputsDigest() string {
	repositories := slices.Clone(img.Spec.Repositories)
	for i := range repositories {
		repositories[i].BuildOnly = false // decides what the node knows, not what it has
	}
	data, _ := json.Marshal(struct { // strings and booleans only: cannot fail
		OS              OS           `json:"os"`
		Kubernetes      Kubernetes   `json:"kubernetes"`
		Architecture    string       `json:"architecture"`
		Archives        []Archive    `json:"archives,omitempty"`
		Repositories    []Repository `json:"repositories,omitempty"`
		Packages        []string     `json:"packages,omitempty"`
		ContainerImages []string     `json:"containerImages,omitempty"`
		AllowUnverified []string     `json:"allowUnverified,omitempty"`
	}{
		img.Spec.OS, img.Spec.Kubernetes, img.Spec.Architecture,
		img.Spec.Source.OS.Packages.Archives, repositories,
		slices.Sorted(slices.Values(img.Spec.Packages)), img.Spec.pulled(),
		slices.Sorted(slices.Values(img.Spec.AllowUnverified)),
	})
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
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
