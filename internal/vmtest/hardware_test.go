package vmtest

import (
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/infra"
)

func TestEveryInfrastructuresHardwareCanBeImitated(t *testing.T) {
	for _, name := range infra.Names() {
		place, _ := infra.Find(name)
		for _, firmware := range []Firmware{BIOS, UEFI, UEFISecure} {
			o := Options{Firmware: firmware, Accel: TCG, Hardware: place.Hardware, Seed: &Seed{}}.withDefaults(t.Context())
			args, err := o.devices()
			if err != nil {
				t.Errorf("%s on %s: %v", name, firmware, err)
				continue
			}
			for _, drive := range []string{"drive=disk", "drive=seed"} {
				if !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, drive) }) {
					t.Errorf("%s on %s: no device has %s: %q", name, firmware, drive, args)
				}
			}
		}
	}
	if _, err := (Options{Hardware: infra.Hardware{Disk: "floppy", Network: infra.VirtioNet}}).devices(); err == nil {
		t.Error("a floppy was made")
	}
}

func TestTheGuestsNetworkLeadsToTheNamedServersAlone(t *testing.T) {
	for want, servers := range map[string]map[string]string{
		"user,id=net,restrict=on": nil,
		"user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:443-cmd:socat STDIO TCP:127.0.0.1:8443,guestfwd=tcp:10.0.2.100:80-cmd:socat STDIO TCP:127.0.0.1:8080": {
			"10.0.2.100:80": "127.0.0.1:8080", "10.0.2.100:443": "127.0.0.1:8443",
		},
	} {
		args, err := Options{Firmware: BIOS, Accel: TCG, Servers: servers}.withDefaults(t.Context()).devices()
		if err != nil || !slices.Contains(args, want) {
			t.Errorf("%q, %v; want %q", args, err, want)
		}
	}
}

// What boots is what the firmware can read; the report names it.
func TestUEFIBootsWithoutPVSCSI(t *testing.T) {
	place, _ := infra.Find("vsphere")
	for firmware, want := range map[Firmware]infra.DiskController{BIOS: infra.PVSCSI, UEFI: infra.VirtioSCSI, UEFISecure: infra.VirtioSCSI} {
		if got := bootable(firmware, place.Hardware); got.Disk != want || got.Network != infra.VMXNET3 {
			t.Errorf("%s: %+v", firmware, got)
		}
	}
}
