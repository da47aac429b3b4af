// Package ova writes and reads OVF packages in one file: a tar archive of the
// OVF descriptor, a streamOptimized VMDK, a manifest of SHA-256 digests and, with
// a key, a signature (DMTF DSP0243, "Open Virtualization Format Specification",
// 1.1 and 2.1; file names of sections in comments are its own).
//
// The descriptor stands first although it names the VMDK's size: its place is
// reserved and filled last, so nothing is written twice.
package ova

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

// Format is the table row.
var Format = format.Format{
	Name: "ova", Suffix: ".ova",
	Probe: probe,
	Open:  func(r io.ReaderAt, size int64) (format.Source, error) { return Open(r, size) },
	New:   Options{}.New, Revision: 2, SizeUnit: format.SectorSize, QEMU: "vmdk", // of the VMDK in it
}

// Firmware is what the virtual machine boots with.
type Firmware string

// The firmwares, as image-builder and CAPV's templates name them.
const (
	BIOS      Firmware = "bios"
	EFI       Firmware = "efi"
	EFISecure Firmware = "efi-secure"
)

// Options says what the descriptor tells; zero values have the defaults named
// here.
type Options struct {
	// Name is the virtual machine's name and the begin of the file names;
	// default "disk".
	Name string `json:"name,omitempty"`
	// HardwareVersion is N of vmx-N; default 15 (vSphere 6.7U2), at least 7,
	// at least 13 with EFISecure.
	HardwareVersion int `json:"hardwareVersion,omitempty"`
	// Firmware defaults to EFI.
	Firmware Firmware `json:"firmware,omitempty"`
	// GuestOS is VMware's identifier, as in "ubuntu64Guest"; default
	// otherLinux64Guest.
	GuestOS string `json:"guestOS,omitempty"`
	// GuestOSNumber is the number of CIM_OperatingSystem.OSType; default 101
	// (64-bit Linux). Debian is 96, Ubuntu 94, RHEL 80.
	GuestOSNumber int `json:"guestOSNumber,omitempty"`
	// CPUs and MemoryMiB default to 2 and 2048; clones override them.
	CPUs      int `json:"cpus,omitempty"`
	MemoryMiB int `json:"memoryMiB,omitempty"`
	// Network is the name of the network that the importer maps; default nic0.
	Network string `json:"network,omitempty"`
	// Product describes the image; the properties are what TKG and CAPV read.
	Product Product `json:"product,omitzero"`
	// EULA is a licence text that the importer has to accept; none if empty.
	EULA string `json:"eula,omitempty"`
	// Annotation is shown as the virtual machine's notes.
	Annotation string `json:"annotation,omitempty"`
	// Signer signs the manifest; nil for none.
	Signer *Signer `json:"-"`
}

// Product is the ProductSection.
type Product struct {
	// Name, Vendor, Version and FullVersion are for people.
	Name        string `json:"name,omitempty"`
	Vendor      string `json:"vendor,omitempty"`
	Version     string `json:"version,omitempty"`
	FullVersion string `json:"fullVersion,omitempty"`
	// Category groups the properties; default "Cluster API Provider (CAPI)",
	// the only one in which TKG looks for them.
	Category string `json:"category,omitempty"`
	// Properties are written in this order, none of them user configurable.
	Properties []Property `json:"properties,omitempty"`
}

// Property is one key with its value.
type Property struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// CAPICategory is the category in which TKG's template resolver looks for the
// property VERSION.
const CAPICategory = "Cluster API Provider (CAPI)"

// goodName is what file names in a package may be made of, so that no importer
// has to unescape a URL.
var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,80}$`)

func (o Options) withDefaults() (Options, error) {
	setDefault(&o.Name, "disk")
	setDefault(&o.HardwareVersion, 15)
	setDefault(&o.Firmware, EFI)
	setDefault(&o.GuestOS, "otherLinux64Guest")
	setDefault(&o.GuestOSNumber, 101)
	setDefault(&o.CPUs, 2)
	setDefault(&o.MemoryMiB, 2048)
	setDefault(&o.Network, "nic0")
	setDefault(&o.Product.Category, CAPICategory)
	leastHardware := 7
	switch o.Firmware {
	case BIOS, EFI:
	case EFISecure:
		leastHardware = 13
	default:
		return o, fmt.Errorf("OVA firmware %q: want bios, efi or efi-secure", o.Firmware)
	}
	switch {
	case !goodName.MatchString(o.Name):
		return o, fmt.Errorf("OVA name %q: want at most 81 letters, digits and ._+-, a letter or digit first", o.Name)
	case o.HardwareVersion < leastHardware:
		return o, fmt.Errorf("OVA hardware version %d: want at least %d with firmware %s", o.HardwareVersion, leastHardware, o.Firmware)
	case o.CPUs < 1 || o.MemoryMiB < 4:
		return o, fmt.Errorf("OVA with %d CPUs and %d MiB of memory: want at least 1 and 4", o.CPUs, o.MemoryMiB)
	}
	return o, nil
}

// setDefault sets v to value if it is zero.
func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func probe(r io.ReaderAt, size int64) (bool, error) {
	if size < 512 {
		return false, nil
	}
	first := make([]byte, 512)
	if _, err := r.ReadAt(first, 0); err != nil {
		return false, fmt.Errorf("read the first sector: %w", err)
	}
	h, err := tar.NewReader(bytes.NewReader(first)).Next()
	return err == nil && strings.EqualFold(path.Ext(h.Name), ".ovf"), nil
}

// diskName is the VMDK's name in the package.
func (o Options) diskName() string { return o.Name + "-disk1.vmdk" }

func (o Options) newDisk(out *format.Output, diskSize int64) (format.Writer, error) {
	return vmdk.Options{FileName: o.diskName()}.New(out, diskSize)
}
