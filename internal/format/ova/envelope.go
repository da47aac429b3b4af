package ova

import (
	"encoding/xml"
	"fmt"
	"strconv"
)

// envelope is the OVF descriptor. Prefixes are part of the names here, because
// encoding/xml does not write any; the envelope's attributes declare them.
type envelope struct {
	XMLName xml.Name `xml:"Envelope"`
	Default string   `xml:"xmlns,attr"`
	CIM     string   `xml:"xmlns:cim,attr"`
	OVF     string   `xml:"xmlns:ovf,attr"`
	RASD    string   `xml:"xmlns:rasd,attr"`
	VMW     string   `xml:"xmlns:vmw,attr"`
	VSSD    string   `xml:"xmlns:vssd,attr"`

	Files   []fileReference `xml:"References>File"`
	Disks   diskSection     `xml:"DiskSection"`
	Network networkSection  `xml:"NetworkSection"`
	System  virtualSystem   `xml:"VirtualSystem"`
}

type fileReference struct {
	Href string `xml:"ovf:href,attr"`
	ID   string `xml:"ovf:id,attr"`
	Size int64  `xml:"ovf:size,attr"`
}

type diskSection struct {
	Info string        `xml:"Info"`
	Disk diskReference `xml:"Disk"`
}

type diskReference struct {
	Capacity      int64  `xml:"ovf:capacity,attr"`
	Units         string `xml:"ovf:capacityAllocationUnits,attr"`
	DiskID        string `xml:"ovf:diskId,attr"`
	FileRef       string `xml:"ovf:fileRef,attr"`
	Format        string `xml:"ovf:format,attr"`
	PopulatedSize int64  `xml:"ovf:populatedSize,attr"`
}

type networkSection struct {
	Info    string `xml:"Info"`
	Network struct {
		Name        string `xml:"ovf:name,attr"`
		Description string `xml:"Description"`
	} `xml:"Network"`
}

type virtualSystem struct {
	ID         string          `xml:"ovf:id,attr"`
	Info       string          `xml:"Info"`
	Name       string          `xml:"Name"`
	Annotation *annotation     `xml:"AnnotationSection"`
	Product    productSection  `xml:"ProductSection"`
	EULA       *eula           `xml:"EulaSection"`
	OS         operatingSystem `xml:"OperatingSystemSection"`
	Hardware   hardwareSection `xml:"VirtualHardwareSection"`
}

type annotation struct {
	Info string `xml:"Info"`
	Text string `xml:"Annotation"`
}

type eula struct {
	Info    string `xml:"Info"`
	License string `xml:"License"`
}

type productSection struct {
	Info        string     `xml:"Info"`
	Product     string     `xml:"Product,omitempty"`
	Vendor      string     `xml:"Vendor,omitempty"`
	Version     string     `xml:"Version,omitempty"`
	FullVersion string     `xml:"FullVersion,omitempty"`
	Category    string     `xml:"Category"`
	Properties  []property `xml:"Property"`
}

type property struct {
	UserConfigurable bool   `xml:"ovf:userConfigurable,attr"`
	Key              string `xml:"ovf:key,attr"`
	Type             string `xml:"ovf:type,attr"`
	Value            string `xml:"ovf:value,attr"`
}

type operatingSystem struct {
	ID     int    `xml:"ovf:id,attr"`
	OSType string `xml:"vmw:osType,attr"`
	Info   string `xml:"Info"`
}

type hardwareSection struct {
	Info   string         `xml:"Info"`
	System hardwareSystem `xml:"System"`
	Items  []item         `xml:"Item"`
	Config []config       `xml:"vmw:Config"`
}

type hardwareSystem struct {
	ElementName string `xml:"vssd:ElementName"`
	InstanceID  int    `xml:"vssd:InstanceID"`
	Identifier  string `xml:"vssd:VirtualSystemIdentifier"`
	Type        string `xml:"vssd:VirtualSystemType"`
}

// item is a device; the schema wants its elements in the order of the alphabet.
type item struct {
	Address             string `xml:"rasd:Address,omitempty"`
	AddressOnParent     string `xml:"rasd:AddressOnParent,omitempty"`
	AllocationUnits     string `xml:"rasd:AllocationUnits,omitempty"`
	AutomaticAllocation string `xml:"rasd:AutomaticAllocation,omitempty"`
	Connection          string `xml:"rasd:Connection,omitempty"`
	Description         string `xml:"rasd:Description,omitempty"`
	ElementName         string `xml:"rasd:ElementName"`
	HostResource        string `xml:"rasd:HostResource,omitempty"`
	InstanceID          int    `xml:"rasd:InstanceID"`
	Parent              string `xml:"rasd:Parent,omitempty"`
	ResourceSubType     string `xml:"rasd:ResourceSubType,omitempty"`
	ResourceType        int    `xml:"rasd:ResourceType"`
	VirtualQuantity     int    `xml:"rasd:VirtualQuantity,omitempty"`
}

type config struct {
	Required bool   `xml:"ovf:required,attr"`
	Key      string `xml:"vmw:key,attr"`
	Value    string `xml:"vmw:value,attr"`
}

// Resource types of CIM_ResourceAllocationSettingData.
const (
	resourceCPU      = 3
	resourceMemory   = 4
	resourceSCSI     = 6
	resourceEthernet = 10
	resourceDisk     = 17
)

// streamOptimized is the format's name that VMware's importers look for.
const streamOptimized = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

// descriptor returns the OVF descriptor for a disk of capacity bytes, populated
// of them not zero, in a VMDK of fileSize bytes.
func (o Options) descriptor(capacity, populated, fileSize int64) ([]byte, error) {
	const namespace = "http://schemas.dmtf.org/ovf/envelope/1"
	const cim = "http://schemas.dmtf.org/wbem/wscim/1/"
	e := envelope{
		Default: namespace, OVF: namespace, CIM: cim + "common",
		RASD:  cim + "cim-schema/2/CIM_ResourceAllocationSettingData",
		VSSD:  cim + "cim-schema/2/CIM_VirtualSystemSettingData",
		VMW:   "http://www.vmware.com/schema/ovf",
		Files: []fileReference{{Href: o.diskName(), ID: "file1", Size: fileSize}},
		Disks: diskSection{Info: "The virtual disks", Disk: diskReference{
			Capacity: capacity, Units: "byte", DiskID: "vmdisk1", FileRef: "file1",
			Format: streamOptimized, PopulatedSize: populated,
		}},
		System: virtualSystem{
			ID: o.Name, Info: "A virtual machine", Name: o.Name, Product: o.product(),
			OS:       operatingSystem{ID: o.GuestOSNumber, OSType: o.GuestOS, Info: "The guest's operating system"},
			Hardware: o.hardware(),
		},
	}
	e.Network.Info = "The networks that the virtual machine needs"
	e.Network.Network.Name, e.Network.Network.Description = o.Network, "The network of the node"
	if o.Annotation != "" {
		e.System.Annotation = &annotation{"Notes", o.Annotation}
	}
	if o.EULA != "" {
		e.System.EULA = &eula{"The licence to accept", o.EULA}
	}
	body, err := xml.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the OVF descriptor: %w", err)
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

func (o Options) product() productSection {
	p := productSection{
		Info: "What is in the image", Product: o.Product.Name, Vendor: o.Product.Vendor,
		Version: o.Product.Version, FullVersion: o.Product.FullVersion, Category: o.Product.Category,
	}
	for _, each := range o.Product.Properties {
		p.Properties = append(p.Properties, property{Key: each.Key, Type: "string", Value: each.Value})
	}
	return p
}

func (o Options) hardware() hardwareSection {
	h := hardwareSection{
		Info: "The virtual hardware",
		System: hardwareSystem{
			ElementName: "Virtual Hardware Family", Identifier: o.Name,
			Type: "vmx-" + strconv.Itoa(o.HardwareVersion),
		},
		Items: []item{
			{AllocationUnits: "hertz * 10^6", Description: "Number of virtual CPUs", ElementName: fmt.Sprintf("%d virtual CPUs", o.CPUs),
				InstanceID: 1, ResourceType: resourceCPU, VirtualQuantity: o.CPUs},
			{AllocationUnits: "byte * 2^20", Description: "Memory size", ElementName: fmt.Sprintf("%d MiB of memory", o.MemoryMiB),
				InstanceID: 2, ResourceType: resourceMemory, VirtualQuantity: o.MemoryMiB},
			{Address: "0", Description: "SCSI controller", ElementName: "SCSI controller 0",
				InstanceID: 3, ResourceSubType: "VirtualSCSI", ResourceType: resourceSCSI},
			{AddressOnParent: "0", ElementName: "Hard disk 1", HostResource: "ovf:/disk/vmdisk1",
				InstanceID: 4, Parent: "3", ResourceType: resourceDisk},
			{AddressOnParent: "7", AutomaticAllocation: "true", Connection: o.Network, Description: "VMXNET3 network adapter",
				ElementName: "Network adapter 1", InstanceID: 5, ResourceSubType: "VmxNet3", ResourceType: resourceEthernet},
		},
	}
	firmware := o.Firmware
	if firmware == EFISecure {
		firmware = EFI
	}
	h.Config = []config{{Key: "firmware", Value: string(firmware)}}
	if o.Firmware == EFISecure {
		h.Config = append(h.Config, config{Key: "bootOptions.efiSecureBootEnabled", Value: "true"})
	}
	return h
}
