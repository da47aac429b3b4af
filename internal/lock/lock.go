// Package lock is the list of everything that enters an image, by digest.
//
// What comes in is a spec (resolved by the sources), what goes out is a YAML
// file that two people can compare. A lock holds the addresses that publishers
// give their files, never a mirror's: the same lock builds behind any mirror.
package lock

import (
	"strings"
	"time"

	"nodesmith.dev/nodesmith/api/v1alpha1"
)

// Lock pins every input of one image for one architecture.
type Lock struct {
	APIVersion string `json:"apiVersion"` // nodesmith.dev/v1alpha1
	Kind       string `json:"kind"`       // Lock
	// Image is metadata.name of the NodeImage that was locked.
	Image string `json:"image"`
	// Inputs are the digests of what the spec asked for. A lock whose Inputs differ
	// from its spec's is stale.
	Inputs v1alpha1.Inputs `json:"inputs"`
	// Architecture is Debian's and Go's name of it: amd64.
	Architecture string `json:"architecture"`
	// Epoch is the time that every file in the image carries at most: the
	// newest date among the Release files of the OS's archives.
	Epoch time.Time `json:"epoch"`
	// Tools is the Debian 13 tree that the build's own programs come from.
	Tools PackageSet `json:"tools"`
	// Compiler goes on top of Tools where something is compiled: a disk needs none.
	Compiler PackageSet `json:"compiler,omitzero"`
	// OS is the base operating system; Packages is what the spec adds to it.
	OS       PackageSet `json:"os"`
	Packages PackageSet `json:"packages,omitzero"`
	// ContainerImages are those of the spec that are pulled from registries, by
	// name.
	ContainerImages []PulledImage `json:"containerImages,omitempty"`
	// Infrastructures are those of the spec, by name.
	Infrastructures []Infrastructure `json:"infrastructures"`
	// Kubernetes is everything compiled from Go modules, and the container
	// images made from it.
	Kubernetes Kubernetes `json:"kubernetes"`
}

// PulledImage is a container image of a registry.
type PulledImage struct {
	Name string `json:"name"` // registry.example.com/team/agent:v1.2.3
	// Digest is that of the manifest for the lock's architecture (sha256:...).
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes to pull
}

// Infrastructure is what an image for one infrastructure has besides.
type Infrastructure struct {
	Name string `json:"name"` // vsphere
	// Packages go on top of the OS and of what the spec adds to it.
	Packages PackageSet `json:"packages,omitzero"`
}

// PackageSet is the answer of the distribution's package solver.
type PackageSet struct {
	Archives []Archive `json:"archives,omitempty"`
	// Packages are in the order in which the solver would install them.
	Packages []Package `json:"packages,omitempty"`
}

// Archive is one suite of a package archive as it was when it was locked.
type Archive struct {
	URL   string `json:"url"`   // as the publisher names it: http://deb.debian.org/debian
	Suite string `json:"suite"` // bookworm, bookworm-security
	// Release is the SHA-256 (hex) of the InRelease file whose signature was checked.
	Release string    `json:"release"`
	Date    time.Time `json:"date"`
	// SignedBy is the fingerprint of the key that signed it; none if allowUnverified.
	SignedBy string `json:"signedBy"`
}

// Package is one binary package.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	URL          string `json:"url"`
	SHA256       string `json:"sha256"` // hex
	Size         int64  `json:"size"`   // bytes
	// Ground packages (the essential ones and what they depend on) are unpacked
	// before any package's script runs.
	Ground bool `json:"ground,omitempty"`
}

// Kubernetes is one Kubernetes version compiled from source.
type Kubernetes struct {
	Version   string   `json:"version"` // v1.34.0
	Toolchain GoModule `json:"toolchain"`
	// Components are compiled one by one, each from its own module graph.
	Components []GoComponent `json:"components"`
	// Images are the container images that kubeadm of this version asks for.
	Images []ContainerImage `json:"images"`
	// ImageBase is the Debian 13 package set that container images are made on
	// top of (certificates, and kube-proxy's iptables and nft).
	ImageBase PackageSet `json:"imageBase"`
}

// GoModule is a module version with the checksum of its zip file.
type GoModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"` // h1:..., as in go.sum
}

// GoComponent is a set of main packages compiled from one module.
type GoComponent struct {
	Name     string   `json:"name"` // kubernetes, etcd, containerd, ...
	Module   string   `json:"module"`
	Version  string   `json:"version"`
	Packages []string `json:"packages"` // import paths of main packages
	// GoMod is the go.mod of the empty main module that requires Module.
	GoMod string `json:"goMod"`
	// GoSum has one line of go.sum for every module zip and go.mod file that
	// the build reads, and no other.
	GoSum []string `json:"goSum"`
}

// ContainerImage is an image that is put into the node's containerd store.
type ContainerImage struct {
	// Name is the reference that kubeadm asks for: registry.k8s.io/pause:3.10.1.
	Name string `json:"name"`
	// Component names the binary inside: kube-apiserver, etcd, coredns, pause.
	Component string `json:"component"`
}

// Infrastructure returns what is locked for one infrastructure.
func (l *Lock) Infrastructure(name string) (Infrastructure, bool) {
	for _, i := range l.Infrastructures {
		if i.Name == name {
			return i, true
		}
	}
	return Infrastructure{}, false
}

// Modules counts the distinct Go modules whose code is compiled.
func (k Kubernetes) Modules() int {
	modules := map[string]bool{}
	for _, component := range k.Components {
		for _, line := range component.GoSum {
			if fields := strings.Fields(line); len(fields) == 3 && !strings.HasSuffix(fields[1], "/go.mod") {
				modules[fields[0]+"@"+fields[1]] = true
			}
		}
	}
	return len(modules)
}
