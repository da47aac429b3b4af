package vmtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// Each image is made by qemu-img; the last one lies within another file, as the
// VMDK of an OVA does.
func TestMachineBootsFromEveryFormat(t *testing.T) {
	testenv.Need(t, qemuProgram, "qemu-img")
	disk := guest(t, "Kernel panic - not syncing: booted\r\n", thenHang)
	dir := t.TempDir()
	convert := func(name string, args ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if _, err := qemuImg(t.Context(), append(append([]string{"convert", "-f", "raw"}, args...), disk, path)...); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vmdk := convert("a: colon.vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized")
	content, err := os.ReadFile(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	embedded := filepath.Join(dir, "package")
	if err := os.WriteFile(embedded, append(append(make([]byte, 1536), content...), make([]byte, 700)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string]Disk{
		"raw":               {Path: disk},
		"qcow2":             {Path: convert("x.qcow2", "-O", "qcow2", "-c"), Format: QCOW2},
		"vmdk":              {Path: vmdk, Format: VMDK},
		"fixed vhd":         {Path: convert("fixed.vhd", "-O", "vpc", "-o", "subformat=fixed,force_size=on"), Format: VHD},
		"dynamic vhd":       {Path: convert("dynamic.vhd", "-O", "vpc"), Format: VHD},
		"vmdk in a package": {Path: embedded, Format: VMDK, Offset: 1536, Length: int64(len(content))},
	} {
		t.Run(name, func(t *testing.T) {
			options := tiny(t, "")
			options.Disk = image
			m, err := Start(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if _, err := m.WaitReport(t.Context(), time.Minute, nil); err == nil || !strings.Contains(err.Error(), "not syncing: booted") {
				t.Error(err)
			}
		})
	}
}
