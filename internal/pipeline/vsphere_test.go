package pipeline

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/lock"
)

// machineOf is the virtual machine of a NodeImage with what spec adds.
func machineOf(t *testing.T, spec string) ova.Options {
	t.Helper()
	inputs := inputsOf(t, spec, fstest.MapFS{})
	inputs.infrastructure, _ = infra.Find("vsphere")
	inputs.lock.Epoch = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	inputs.lock.Kubernetes.Components = []lock.GoComponent{{Name: "cni", Version: "v1.7.1"}, {Name: "containerd", Version: "v2.1.4"}}
	options, err := inputs.machine(nil)
	if err != nil {
		t.Fatal(err)
	}
	return options
}

func TestTheOVASaysWhatIsInTheImage(t *testing.T) {
	got := machineOf(t, "")
	want := ova.Options{
		Name: "web-kube-v1.34.0", HardwareVersion: 15, Firmware: ova.EFI, GuestOS: "debian11_64Guest", GuestOSNumber: 96,
		CPUs: 2, MemoryMiB: 2048, Network: "nic0",
		Product: ova.Product{Name: "Debian 12 and Kubernetes v1.34.0", Version: "kube-v1.34.0", FullVersion: "kube-v1.34.0"},
	}
	properties := got.Product.Properties
	got.Product.Properties = nil
	if a, b := mustIdentify(t, got), mustIdentify(t, want); a != b {
		t.Errorf("got %s\nwant %s", a, b)
	}
	wantProperties := []ova.Property{
		{Key: "VERSION", Value: "v1.34.0"}, {Key: "DISTRO_NAME", Value: "debian"}, {Key: "DISTRO_VERSION", Value: "12"},
		{Key: "DISTRO_ARCH", Value: "amd64"}, {Key: "KUBERNETES_SEMVER", Value: "v1.34.0"}, {Key: "KUBERNETES_SOURCE_TYPE", Value: "goModules"},
		{Key: "CNI_VERSION", Value: "v1.7.1"}, {Key: "CONTAINERD_VERSION", Value: "v2.1.4"},
		{Key: "BUILD_DATE", Value: "2026-11-23T08:00:00Z"}, {Key: "BUILD_TIMESTAMP", Value: "1795420800"},
		{Key: "IMAGE_BUILDER_VERSION", Value: "nodesmith-v1"},
	}
	if !slices.Equal(properties, wantProperties) {
		t.Errorf("properties %v\nwant %v", properties, wantProperties)
	}
}

func mustIdentify(t *testing.T, o ova.Options) string {
	t.Helper()
	text, err := identity(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheSpecDecidesTheVirtualMachine(t *testing.T) {
	got := machineOf(t, "  vsphere:\n    name: '{{.OSDistro}}-{{.OSVersion}}'\n    hardwareVersion: 17\n    firmware: efi-secure\n    guestOS: otherLinux64Guest\n"+
		"    cpus: 4\n    memory: 8Gi\n    network: lan\n    annotation: notes\n    eula: terms\n    product: {name: Node, vendor: Us, version: '7'}\n"+
		"    properties: {VERSION: v1.34.0+us.1, TEAM: platform}\n")
	want := ova.Options{
		Name: "debian-12", HardwareVersion: 17, Firmware: ova.EFISecure, GuestOS: "otherLinux64Guest", GuestOSNumber: 96,
		CPUs: 4, MemoryMiB: 8192, Network: "lan", Annotation: "notes", EULA: "terms",
		Product: ova.Product{Name: "Node", Vendor: "Us", Version: "7", FullVersion: "7"},
	}
	properties := got.Product.Properties
	got.Product.Properties = nil
	if a, b := mustIdentify(t, got), mustIdentify(t, want); a != b {
		t.Errorf("got %s\nwant %s", a, b)
	}
	if first, last := properties[0], properties[len(properties)-1]; first.Value != "v1.34.0+us.1" || last.Key != "TEAM" || last.Value != "platform" {
		t.Errorf("properties %v", properties)
	}
}
