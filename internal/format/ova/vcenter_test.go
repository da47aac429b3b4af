package ova_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/internal/format/ova"
)

// vcenter is a session with VMware's simulator of vCenter, over TLS.
func vcenter(t *testing.T) *vim25.Client {
	t.Helper()
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Remove)
	model.Service.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server := model.Service.NewServer()
	t.Cleanup(server.Close)
	client, err := govmomi.NewClient(t.Context(), server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	return client.Client
}

// places are where the simulator's first datacenter puts a virtual machine.
func places(t *testing.T, c *vim25.Client, archive importer.Archive) *importer.Importer {
	t.Helper()
	ctx, finder := t.Context(), find.NewFinder(c)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	datacenter, err := finder.DefaultDatacenter(ctx)
	must(err)
	finder.SetDatacenter(datacenter)
	datastore, err := finder.DefaultDatastore(ctx)
	must(err)
	pool, err := finder.ResourcePool(ctx, "DC0_C0/Resources")
	must(err)
	folders, err := datacenter.Folders(ctx)
	must(err)
	return &importer.Importer{
		Log: func(s string) (int, error) { return len(s), nil }, Client: c, Finder: finder, Archive: archive,
		Datacenter: datacenter, Datastore: datastore, ResourcePool: pool, Folder: folders.VmFolder,
	}
}

// deploy imports an OVA as govc does, and returns the virtual machine and what
// the server says that it got.
func deploy(t *testing.T, c *vim25.Client, path string) (mo.VirtualMachine, []types.HttpNfcLeaseManifestEntry) {
	t.Helper()
	ctx := t.Context()
	archive := &importer.TapeArchive{Path: path, Opener: importer.Opener{Client: c}}
	i := places(t, c, archive)
	info, lease, err := i.ImportVApp(ctx, "*.ovf", importer.Options{NetworkMapping: []importer.Network{{Name: "nic0", Network: "VM Network"}}})
	if err != nil {
		t.Fatal(err)
	}
	updater := lease.StartUpdater(ctx, info)
	defer updater.Done()
	for _, item := range info.Items {
		upload(ctx, t, lease, archive, item)
	}
	received, err := lease.GetManifest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Complete(ctx); err != nil {
		t.Fatal(err)
	}
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(c).RetrieveOne(ctx, info.Entity, []string{"name", "config"}, &vm); err != nil {
		t.Fatal(err)
	}
	return vm, received
}

func upload(ctx context.Context, t *testing.T, lease *nfc.Lease, archive importer.Archive, item nfc.FileItem) {
	t.Helper()
	file, size, err := archive.Open(item.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if size != item.Size {
		t.Errorf("%s has %d bytes, the descriptor says %d", item.Path, size, item.Size)
	}
	if err := lease.Upload(ctx, item, file, soap.Upload{ContentLength: size}); err != nil {
		t.Fatal(err)
	}
}

func TestVCenterMakesTheVirtualMachineThatTheDescriptorTells(t *testing.T) {
	path, dir, _ := pack(t, node)
	vm, received := deploy(t, vcenter(t), path)

	config := vm.Config
	for what, is := range map[string][2]any{
		"name":             {vm.Name, node.Name},
		"hardware version": {config.Version, "vmx-17"},
		"guest":            {config.GuestId, node.GuestOS},
		"CPUs":             {config.Hardware.NumCPU, int32(node.CPUs)},
		"memory":           {config.Hardware.MemoryMB, int32(node.MemoryMiB)},
	} {
		if is[0] != is[1] {
			t.Errorf("%s: %v, want %v", what, is[0], is[1])
		}
	}
	devices := object.VirtualDeviceList(config.Hardware.Device)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 1 || disks[0].(*types.VirtualDisk).CapacityInBytes != 40<<20 {
		t.Errorf("disks %v", disks)
	}
	for what, kind := range map[string]types.BaseVirtualDevice{
		"paravirtual SCSI controller": (*types.ParaVirtualSCSIController)(nil), "VMXNET3 card": (*types.VirtualVmxnet3)(nil),
	} {
		if found := devices.SelectByType(kind); len(found) != 1 {
			t.Errorf("%d devices are a %s", len(found), what)
		}
	}
	checkVApp(t, config.VAppConfig.GetVmConfigInfo())
	disk, err := os.ReadFile(filepath.Join(dir, node.Name+"-disk1.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	if len(received) != 1 || received[0].Size != int64(len(disk)) || received[0].Sha1 != fmt.Sprintf("%x", sha1.Sum(disk)) {
		t.Errorf("the server received %+v, not the VMDK of %d bytes", received, len(disk))
	}
}

// checkVApp holds what Tanzu Kubernetes Grid reads of a template: the category
// and the default value of each property.
func checkVApp(t *testing.T, vapp *types.VmConfigInfo) {
	t.Helper()
	if p := vapp.Product; len(p) != 1 || p[0].Name != node.Product.Name || p[0].Vendor != node.Product.Vendor || p[0].Version != node.Product.Version {
		t.Errorf("product %+v", p)
	}
	var got []ova.Property
	for _, p := range vapp.Property {
		if p.Category != ova.CAPICategory || p.UserConfigurable == nil || *p.UserConfigurable || p.Type != "string" {
			t.Errorf("property %+v", p)
		}
		got = append(got, ova.Property{Key: p.Id, Value: p.DefaultValue})
	}
	if !slices.Equal(got, node.Product.Properties) {
		t.Errorf("properties %v, want %v", got, node.Product.Properties)
	}
}

// element is an XML element, with names in full.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// all returns the elements at a path below e.
func (e element) all(path ...string) []element {
	if len(path) == 0 {
		return []element{e}
	}
	var found []element
	for _, c := range e.Children {
		if c.XMLName.Local == path[0] {
			found = append(found, c.all(path[1:]...)...)
		}
	}
	return found
}

// TestTheDescriptorKeepsRulesThatTheSimulatorDoesNotLookAt is for what vcsim
// takes without a look or drops. Sections are those of DSP0243 2.1.1; vmw:Config
// is VMware's own extension.
func TestTheDescriptorKeepsRulesThatTheSimulatorDoesNotLookAt(t *testing.T) {
	path, _, _ := pack(t, node)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ova.Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var e element
	if err := xml.Unmarshal(p.Descriptor, &e); err != nil {
		t.Fatal(err)
	}
	hardware := func(path ...string) []element {
		return e.all(append([]string{"VirtualSystem", "VirtualHardwareSection"}, path...)...)
	}
	config := func(key string) string {
		for _, c := range hardware("Config") {
			if c.attr("key") == key {
				return c.attr("value")
			}
		}
		return ""
	}
	one := func(path ...string) element {
		found := e.all(path...)
		if len(found) != 1 {
			t.Errorf("%d elements %v", len(found), path)
			return element{}
		}
		return found[0]
	}
	for _, rule := range []struct {
		section, rule string
		holds         bool
	}{
		{"vmw:Config", "firmware is efi", config("firmware") == "efi"},
		{"vmw:Config", "secure boot is on", config("bootOptions.efiSecureBootEnabled") == "true"},
		{"7.1", "a file's size is that of the file", one("References", "File").attr("size") == fmt.Sprint(p.Embedded().Length)},
		{"7.1", "files are named without a folder", one("References", "File").attr("href") == p.Files[1].Name},
		{"9.1", "a disk names a file by its id", one("DiskSection", "Disk").attr("fileRef") == one("References", "File").attr("id")},
		{"9.1", "the capacity is that of the disk, in the units that it names", one("DiskSection", "Disk").attr("capacity") == fmt.Sprint(p.Size()) &&
			one("DiskSection", "Disk").attr("capacityAllocationUnits") == "byte"},
		{"9.1", "no more is populated than there is", len(one("DiskSection", "Disk").attr("populatedSize")) <= len(fmt.Sprint(p.Size()))},
		{"9.2", "every card's network is one of the NetworkSection", hardware("Item", "Connection")[0].Text == one("NetworkSection", "Network").attr("name")},
		{"8.3", "a disk of the hardware is one of the DiskSection", hardware("Item", "HostResource")[0].Text == "ovf:/disk/"+one("DiskSection", "Disk").attr("diskId")},
		{"8.3", "instance IDs are unique", unique(hardware("Item", "InstanceID"))},
		{"8.3", "a disk's parent is the controller", contains(hardware("Item", "InstanceID"), hardware("Item", "Parent")[0].Text)},
		{"9.5", "a category stands before its properties", categoryFirst(one("VirtualSystem", "ProductSection"))},
		{"9.5", "keys hold no period and no colon, and are unique", keysAreGood(one("VirtualSystem", "ProductSection"))},
		{"9.5", "FullVersion is there", one("VirtualSystem", "ProductSection", "FullVersion").Text == node.Product.FullVersion},
		{"9.6", "the licence is there", one("VirtualSystem", "EulaSection", "License").Text == node.EULA},
		{"9.4", "the annotation is there", one("VirtualSystem", "AnnotationSection", "Annotation").Text == node.Annotation},
		{"9.12", "the operating system has CIM's number", one("VirtualSystem", "OperatingSystemSection").attr("id") == fmt.Sprint(node.GuestOSNumber)},
	} {
		if !rule.holds {
			t.Errorf("%s: %s: it does not", rule.section, rule.rule)
		}
	}
	if t.Failed() {
		t.Logf("%s", bytes.TrimSpace(p.Descriptor))
	}
}

func unique(elements []element) bool {
	seen := map[string]bool{}
	for _, e := range elements {
		if seen[e.Text] {
			return false
		}
		seen[e.Text] = true
	}
	return len(elements) > 0
}

func contains(elements []element, text string) bool {
	return slices.ContainsFunc(elements, func(e element) bool { return e.Text == text })
}

func categoryFirst(product element) bool {
	category, property := -1, -1
	for i, c := range product.Children {
		switch {
		case c.XMLName.Local == "Category":
			category = i
		case c.XMLName.Local == "Property" && property < 0:
			property = i
		}
	}
	return category >= 0 && category < property
}

func keysAreGood(product element) bool {
	seen := map[string]bool{}
	for _, p := range product.all("Property") {
		key := p.attr("key")
		if key == "" || seen[key] || bytes.ContainsAny([]byte(key), ".:") {
			return false
		}
		seen[key] = true
	}
	return len(seen) > 0
}

// The simulator takes what is broken, too: this holds that the test's own
// oracle, the digest of what arrived, tells a damaged upload from a whole one.
func TestTheServersDigestTellsADamagedUpload(t *testing.T) {
	path, _, _ := pack(t, node)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, whole := deploy(t, vcenter(t), path)
	content[len(content)/2] ^= 1
	damaged := filepath.Join(t.TempDir(), "damaged.ova")
	if err := os.WriteFile(damaged, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, broken := deploy(t, vcenter(t), damaged)
	if len(whole) != 1 || len(broken) != 1 || whole[0].Sha1 == broken[0].Sha1 {
		t.Errorf("whole %+v, damaged %+v", whole, broken)
	}
}
