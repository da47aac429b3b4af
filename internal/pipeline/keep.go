package pipeline

import (
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/lock"
)

// keeping is what of an earlier lock stays: the parts that an image asks for in
// the same words, and that lie on nothing that is locked anew.
type keeping struct {
	earlier *lock.Lock // nil if nothing stays; the tools' packages always do
	// Infrastructures stay with the packages that they are on.
	os, packages, images, kubernetes bool
}

// keep compares what an image asks for with what an earlier lock (nil for none)
// was asked for.
func keep(earlier *lock.Lock, image *v1alpha1.NodeImage) keeping {
	if earlier == nil || earlier.Architecture != image.Spec.Architecture {
		return keeping{}
	}
	was, is := earlier.Inputs, image.Inputs()
	return keeping{
		earlier: earlier,
		os:      was.OS == is.OS, packages: was.OS == is.OS && was.Packages == is.Packages,
		images: was.ContainerImages == is.ContainerImages, kubernetes: was.Kubernetes == is.Kubernetes,
	}
}

// start returns a lock for the image that holds what stays.
func (k keeping) start(image *v1alpha1.NodeImage) *lock.Lock {
	l := &lock.Lock{
		APIVersion: lock.APIVersion, Kind: lock.Kind, Image: image.Metadata.Name,
		Inputs: image.Inputs(), Architecture: image.Spec.Architecture,
	}
	if k.earlier == nil {
		return l
	}
	l.Tools, l.Compiler, l.Kubernetes.ImageBase = k.earlier.Tools, k.earlier.Compiler, k.earlier.Kubernetes.ImageBase
	if k.os {
		l.OS, l.Epoch = k.earlier.OS, k.earlier.Epoch
	}
	if k.packages {
		l.Packages, l.Infrastructures = k.earlier.Packages, slices.Clone(k.earlier.Infrastructures)
	}
	if k.images {
		l.ContainerImages = k.earlier.ContainerImages
	}
	if k.kubernetes {
		l.Kubernetes = k.earlier.Kubernetes
	}
	return l
}

// String lists what stays, for people.
func (k keeping) String() string {
	if k.earlier == nil {
		return "nothing"
	}
	parts := []string{"the build's tools"}
	if k.os {
		parts = append(parts, "the operating system")
	}
	if k.packages && len(k.earlier.Packages.Packages) > 0 {
		parts = append(parts, "the spec's packages")
	}
	if k.packages {
		for _, i := range k.earlier.Infrastructures {
			parts = append(parts, i.Name)
		}
	}
	if k.images && len(k.earlier.ContainerImages) > 0 {
		parts = append(parts, "container images")
	}
	if k.kubernetes {
		parts = append(parts, "Kubernetes "+k.earlier.Kubernetes.Version)
	}
	return strings.Join(parts, ", ")
}
