package vmtest

import (
	"fmt"
	"os"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Firmware is what a machine starts with.
type Firmware string

// The firmwares. UEFISecure has Secure Boot on, with Microsoft's keys enrolled.
const (
	BIOS       Firmware = "bios"
	UEFI       Firmware = "uefi"
	UEFISecure Firmware = "uefi-secure"
)

// flash is a build of OVMF: its code, which machines share, and the template
// of the variables, of which each machine gets a copy.
type flash struct{ code, vars string }

// flashes says where distributions put OVMF, for each UEFI firmware, in the
// order in which they are tried. Only raw files: what -drive if=pflash takes
// everywhere.
var flashes = map[Firmware][]flash{
	UEFI: {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},                   // Debian, Ubuntu
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},                         // Debian 11, Ubuntu 20.04
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},               // Fedora, RHEL
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},           // Arch
		{"/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"},   // openSUSE
		{"/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"},             // QEMU's own
		{"/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"}, // QEMU's own, from source
	},
	UEFISecure: {
		{"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
		{"/usr/share/OVMF/OVMF_CODE.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
		{"/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"},
	},
}

// findFlash returns the first build of which both files exist.
func findFlash(firmware Firmware, candidates []flash) (flash, error) {
	var tried []string
	for _, f := range candidates {
		if isFile(f.code) && isFile(f.vars) {
			return f, nil
		}
		tried = append(tried, f.code)
	}
	return flash{}, fault.New(fault.MissingHost,
		"install OVMF (Debian, Ubuntu: apt-get install ovmf; Fedora, Arch: edk2-ovmf; openSUSE: qemu-ovmf-x86_64)",
		"find firmware %s: none of %s with its variables exists", firmware, strings.Join(tried, ", "))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// firmwareArgs returns QEMU's arguments for a firmware. Its variables, if it
// has any, are copied to vars first, so that boots do not see each other.
func firmwareArgs(firmware Firmware, vars string) ([]string, error) {
	// graphics=off: SeaBIOS, too, speaks on the serial console.
	machine := "q35,graphics=off"
	var args []string
	switch firmware {
	case BIOS:
		return []string{"-machine", machine}, nil
	case UEFI:
	case UEFISecure:
		// Without SMM the guest could write the variables itself.
		machine += ",smm=on"
		args = []string{"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"}
	default:
		return nil, fault.New(fault.Usage, "", "unknown firmware %q; want %s, %s or %s", firmware, BIOS, UEFI, UEFISecure)
	}
	found, err := findFlash(firmware, flashes[firmware])
	if err != nil {
		return nil, err
	}
	template, err := os.ReadFile(found.vars)
	if err != nil {
		return nil, fmt.Errorf("read the variables of firmware %s: %w", firmware, err)
	}
	if err := os.WriteFile(vars, template, 0o600); err != nil {
		return nil, fmt.Errorf("copy the variables of firmware %s: %w", firmware, err)
	}
	return append(args, "-machine", machine,
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(found.code),
		"-drive", "if=pflash,unit=1,format=raw,file="+escape(vars)), nil
}
