package v1alpha1

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// VSphere is the virtual machine that the OVA describes, which vSphere makes
// the template of.
type VSphere struct {
	// Name is the virtual machine's name, which begins those of the files in the
	// OVA: a template in the language of Go's text/template with the values that
	// the templates of files have.
	Name string `json:"name,omitempty"`
	// HardwareVersion is the N of vmx-N: 13 runs on vSphere 6.5 and newer, 15 on
	// 6.7 Update 2, 19 on 7.0 Update 2, 21 on 8.0 Update 2.
	HardwareVersion Count `json:"hardwareVersion,omitzero" accept:"int"`
	// Firmware is what the virtual machine boots with; the disk boots on each.
	Firmware string `json:"firmware,omitempty"`
	// GuestOS is VMware's name of the operating system. Without it the name is
	// the newest for the distribution that vSphere 7.0 knows.
	GuestOS string `json:"guestOS,omitempty"`
	// CPUs are those of the template; what is made of it may have others.
	CPUs Count `json:"cpus,omitzero" accept:"int"`
	// Memory is that of the template; what is made of it may have more.
	Memory Size `json:"memory,omitzero" accept:"int"`
	// Network is the name of the network that the importer asks to map.
	Network string `json:"network,omitempty"`
	// Annotation is shown as the virtual machine's notes.
	Annotation string `json:"annotation,omitempty"`
	// EULA is a licence that the importer has to accept.
	EULA string `json:"eula,omitempty"`
	// Product says what the image is, for people.
	Product Product `json:"product,omitzero"`
	// Properties are written besides those that the build fills in: VERSION
	// (the version of Kubernetes), DISTRO_NAME, DISTRO_VERSION, DISTRO_ARCH,
	// KUBERNETES_SEMVER, KUBERNETES_SOURCE_TYPE, CNI_VERSION, CONTAINERD_VERSION,
	// BUILD_DATE, BUILD_TIMESTAMP (of the lock) and IMAGE_BUILDER_VERSION. One of
	// the same name takes its place. Tanzu Kubernetes Grid finds its templates by
	// VERSION and the DISTRO ones.
	Properties map[string]string `json:"properties,omitempty" accept:"int"`
}

// Product says what an image is.
type Product struct {
	// Name is the product's. Without it the name is made of the operating system
	// and Kubernetes.
	Name string `json:"name,omitempty"`
	// Vendor is who made the image.
	Vendor string `json:"vendor,omitempty"`
	// Version is the product's. Without it the version is kube-, followed by that
	// of Kubernetes.
	Version string `json:"version,omitempty"`
}

// What a spec that does not say otherwise means.
const (
	defaultMachineName           = "{{.Image}}-kube-{{.KubernetesVersion}}"
	defaultHardwareVersion Count = 15 // what Cluster API's image-builder writes
	defaultFirmware              = "efi"
	defaultCPUs            Count = 2
	defaultMemory          Size  = 2 << 30
	defaultNetwork               = "nic0"
)

// firmwares are the values of VSphere.Firmware.
var firmwares = []string{"bios", "efi", "efi-secure"}

// Bounds of the virtual machine: vSphere's storage driver for Kubernetes wants
// hardware version 13, vSphere 9.0 knows 22 and 960 CPUs, and memory comes in
// units of 4 MiB.
const (
	minHardwareVersion Count = 13
	maxHardwareVersion Count = 22
	maxCPUs            Count = 960
	memoryUnit         Size  = 4 << 20
	minMemory          Size  = 512 << 20
	maxMemory          Size  = 24 << 40
)

// maxMachineName bounds the name of a virtual machine, in characters.
const maxMachineName = 80

var (
	machineNameSyntax = syntax{
		"the name of a virtual machine", "at most 80 letters, digits and ._+-, a letter or digit first",
		lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`), maxMachineName,
	}
	// The values of vim.vm.GuestOsDescriptor.GuestOsIdentifier.
	guestOSSyntax = syntax{
		"VMware's name of a guest", "an identifier of vSphere's API, such as debian11_64Guest or otherLinux64Guest",
		lazyregexp.New(`^[A-Za-z][A-Za-z0-9_]*Guest(64)?$`), 64,
	}
	lineSyntax = syntax{
		"a line of text", "one line of at most 255 bytes",
		lazyregexp.New(`^[^` + control + `]+$`), 255,
	}
	// What XML 1.0 (production 2) can hold.
	documentSyntax = syntax{
		"text", "UTF-8 text without control characters but tabs and line ends",
		lazyregexp.New(`^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{fffe}\x{ffff}]*$`), 0,
	}
	// OVF keys have no periods and colons (DSP0243, ProductSection).
	propertyKeySyntax = syntax{
		"the key of an OVF property", "letters, digits and _, a letter first, such as VERSION",
		lazyregexp.New(`^[A-Za-z][A-Za-z0-9_]*$`), 255,
	}
	propertyValueSyntax = syntax{"the value of an OVF property", lineSyntax.allowed, lineSyntax.pattern, lineSyntax.maxLength}
)

// setDefaults fills in what was not given, for a disk that boots from disk.
func (v *VSphere) setDefaults(disk []string) {
	if !slices.Contains(disk, diskNeeds(defaultFirmware)) {
		setDefault(&v.Firmware, "bios")
	}
	setDefault(&v.Name, defaultMachineName)
	setDefault(&v.HardwareVersion, defaultHardwareVersion)
	setDefault(&v.Firmware, defaultFirmware)
	setDefault(&v.CPUs, defaultCPUs)
	setDefault(&v.Memory, defaultMemory)
	setDefault(&v.Network, defaultNetwork)
}

// MachineName returns the name of the virtual machine.
func (v VSphere) MachineName(values Values) (string, error) {
	name, err := render(v.Name, values)
	if err == nil && !machineNameSyntax.ok(name) {
		err = &FieldError{Found: quote(name), Problem: "is not " + machineNameSyntax.what, Allowed: []string{machineNameSyntax.allowed}}
	}
	return name, err
}

// diskNeeds returns which of Disk.Firmware a firmware of vSphere needs.
func diskNeeds(firmware string) string {
	if strings.HasPrefix(firmware, "efi") {
		return "uefi"
	}
	return firmware
}

// vsphere checks the virtual machine that the OVA describes.
func (c *checker) vsphere(v VSphere, img *NodeImage) {
	const at = "spec.vsphere"
	c.machineName(at+".name", v, img)
	c.count(at+".hardwareVersion", v.HardwareVersion, minHardwareVersion, maxHardwareVersion)
	c.oneOf(at+".firmware", v.Firmware, "is not a firmware of vSphere", firmwares)
	if need := diskNeeds(v.Firmware); slices.Contains(firmwares, v.Firmware) && !slices.Contains(img.Spec.Disk.Firmware, need) {
		c.add(FieldError{Field: at + ".firmware", Found: quote(v.Firmware), Problem: "does not start this disk: spec.disk.firmware has no " + need})
	}
	c.count(at+".cpus", v.CPUs, 1, maxCPUs)
	if v.Memory < minMemory || v.Memory > maxMemory || v.Memory%memoryUnit != 0 {
		c.add(FieldError{
			Field: at + ".memory", Found: quote(v.Memory.String()), asWritten: true, Problem: "is not a size of memory",
			Allowed: []string{fmt.Sprintf("a multiple of %s from %s to %s", memoryUnit, minMemory, maxMemory)},
		})
	}
	c.matches(at+".network", v.Network, lineSyntax)
	c.optional(at+".product.name", v.Product.Name, lineSyntax)
	c.optional(at+".product.vendor", v.Product.Vendor, lineSyntax)
	c.optional(at+".product.version", v.Product.Version, lineSyntax)
	c.optional(at+".guestOS", v.GuestOS, guestOSSyntax)
	c.optional(at+".annotation", v.Annotation, documentSyntax)
	c.optional(at+".eula", v.EULA, documentSyntax)
	for _, key := range slices.Sorted(maps.Keys(v.Properties)) {
		at := at + ".properties[" + key + "]"
		if !propertyKeySyntax.ok(key) {
			c.add(FieldError{
				Field: at, Found: quote(key), Problem: "is not " + propertyKeySyntax.what,
				Allowed: []string{propertyKeySyntax.allowed}, onKey: true,
			})
			continue
		}
		if value := v.Properties[key]; !propertyValueSyntax.ok(value) {
			c.add(FieldError{
				Field: at, Found: quote(value), Problem: "is not " + propertyValueSyntax.what, Allowed: []string{propertyValueSyntax.allowed},
			})
		}
	}
}

// machineName checks what the template becomes, where what it is made of is
// right and an OVA is wanted.
func (c *checker) machineName(at string, v VSphere, img *NodeImage) {
	wanted := slices.Contains(img.Spec.Infrastructures, "vsphere") || slices.Contains(img.Spec.Formats, "ova")
	if !wanted || !nameSyntax.ok(img.Metadata.Name) || !fullVersion(img.Spec.Kubernetes.Version) {
		return
	}
	values := img.Spec.sample("vsphere")
	values.Image = img.Metadata.Name
	if _, err := v.MachineName(values); err != nil {
		bad, ok := errors.AsType[*FieldError](err)
		if !ok {
			bad = &FieldError{Found: quote(v.Name), Problem: err.Error()}
		}
		bad.Field, bad.lineOfText = at, 0
		c.add(*bad)
	}
}

// optional checks the form of a value that need not be there.
func (c *checker) optional(at, value string, s syntax) {
	if value != "" {
		c.matches(at, value, s)
	}
}

// count checks the bounds of a number.
func (c *checker) count(at string, n, least, most Count) {
	if n < least || n > most {
		c.add(FieldError{
			Field: at, Found: quote(n.String()), asWritten: true, Problem: "is out of range",
			Allowed: []string{least.String() + " to " + most.String()},
		})
	}
}

// Count is a number of things, from 1. The zero value means that none was given;
// no text means zero.
type Count int

// countSyntax are numbers that no computer misreads.
var countSyntax = lazyregexp.New(`^[1-9][0-9]{0,8}$`)

// String returns the number's digits.
func (n Count) String() string { return strconv.Itoa(int(n)) }

// MarshalText returns String.
func (n Count) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// MarshalJSON writes a number.
func (n Count) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads decimal digits. Its error is a *FieldError without a field.
func (n *Count) UnmarshalText(text []byte) error {
	if !countSyntax.Match(text) {
		return &FieldError{Found: quote(string(text)), Problem: "is not a number", Allowed: []string{"a whole number above 0, in digits"}}
	}
	value, err := strconv.Atoi(string(text))
	*n = Count(value)
	return err
}
