package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/kubernetes"
)

// machine is the virtual machine that an OVA of the node describes.
func (n nodeInputs) machine(signer *ova.Signer) (ova.Options, error) {
	row, err := kubernetes.Lookup(n.lock.Kubernetes.Version)
	if err != nil {
		return ova.Options{}, err
	}
	spec := n.image.Spec.VSphere
	name, err := spec.MachineName(n.values(row))
	if err != nil {
		return ova.Options{}, fmt.Errorf("spec.vsphere.name: %w", err)
	}
	options := ova.Options{
		Name: name, HardwareVersion: int(spec.HardwareVersion), Firmware: ova.Firmware(spec.Firmware),
		GuestOS: n.release.Guest.VMware, GuestOSNumber: n.release.Guest.CIM,
		CPUs: int(spec.CPUs), MemoryMiB: int(spec.Memory >> 20), Network: spec.Network,
		Annotation: spec.Annotation, EULA: spec.EULA, Signer: signer,
		Product: ova.Product{
			Name: spec.Product.Name, Vendor: spec.Product.Vendor, Version: spec.Product.Version, FullVersion: spec.Product.Version,
		},
	}
	if spec.GuestOS != "" {
		options.GuestOS = spec.GuestOS
	}
	if spec.Product.Name == "" {
		options.Product.Name = fmt.Sprintf("%s %s and Kubernetes %s", n.release.Title, n.release.Version, n.lock.Kubernetes.Version)
	}
	if spec.Product.Version == "" {
		options.Product.Version = "kube-" + n.lock.Kubernetes.Version
		options.Product.FullVersion = options.Product.Version
	}
	options.Product.Properties = n.properties()
	return options, nil
}

// properties are what Cluster API's image-builder and Tanzu Kubernetes Grid
// write into a template's ProductSection, with those of the spec.
func (n nodeInputs) properties() []ova.Property {
	versions := map[string]string{}
	for _, c := range n.lock.Kubernetes.Components {
		versions[c.Name] = c.Version
	}
	properties := []ova.Property{
		{Key: "VERSION", Value: n.lock.Kubernetes.Version},
		{Key: "DISTRO_NAME", Value: n.release.Distro},
		{Key: "DISTRO_VERSION", Value: n.release.Version},
		{Key: "DISTRO_ARCH", Value: n.release.Architecture},
		{Key: "KUBERNETES_SEMVER", Value: n.lock.Kubernetes.Version},
		{Key: "KUBERNETES_SOURCE_TYPE", Value: "goModules"},
		{Key: "CNI_VERSION", Value: versions[golang.CNI]},
		{Key: "CONTAINERD_VERSION", Value: versions[golang.Containerd]},
		{Key: "BUILD_DATE", Value: n.lock.Epoch.UTC().Format(time.RFC3339)},
		{Key: "BUILD_TIMESTAMP", Value: strconv.FormatInt(n.lock.Epoch.Unix(), 10)},
		{Key: "IMAGE_BUILDER_VERSION", Value: "nodesmith-" + n.version},
	}
	own := n.image.Spec.VSphere.Properties
	for _, key := range slices.Sorted(maps.Keys(own)) {
		at := slices.IndexFunc(properties, func(p ova.Property) bool { return p.Key == key })
		if at < 0 {
			properties = append(properties, ova.Property{Key: key, Value: own[key]})
			continue
		}
		properties[at].Value = own[key]
	}
	return properties
}

// identity is a text that follows everything that the options put into an OVA.
func identity(options ova.Options) (string, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return "", fmt.Errorf("the OVA's settings: %w", err)
	}
	return string(text) + options.Signer.Identity(), nil
}
