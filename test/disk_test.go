package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format/inspect"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// parts is a disk with file systems within each other, one empty and one whose
// size is given; bootable by a BIOS alone.
const parts = `spec.disk={
  size: content, headroom: 1Gi, firmware: [bios],
  fileSystems: [
    {mountPoint: /var/lib/containerd, size: content, headroom: 1Gi, label: images, mountOptions: [noatime]},
    {mountPoint: /var, size: content, headroom: 1Gi},
    {mountPoint: /var/lib/etcd, size: 1Gi},
    {mountPoint: /data/scratch, size: content, headroom: 64Mi, mountOptions: [noatime, nofail]},
  ]}`

// buildDisk builds the example with another disk, from the lock that is there,
// and returns the image's path.
func buildDisk(t *testing.T, disk string) string {
	t.Helper()
	dir := t.TempDir()
	takeLock(t, dir)
	r := must(t, "build", "-f", example, "-o", dir, "--locked", "--progress", "json", "--set", disk)
	for _, step := range stepsRun(t, r.err) {
		if step != "node: configure" && !strings.HasPrefix(step, "qemu: assemble disk") {
			t.Errorf("the step %q ran again", step)
		}
	}
	return strings.TrimSpace(r.out)
}

// names lists the partitions of an image.
func names(t *testing.T, image string) (names []string, size int64) {
	t.Helper()
	var report inspect.Report
	if err := json.Unmarshal([]byte(must(t, "inspect", image, "--no-digest", "--json").out), &report); err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Partitions {
		names = append(names, p.Name)
	}
	return names, report.VirtualSize
}

// holds checks an image against the contract and returns for which firmware.
func holds(t *testing.T, image string) []string {
	t.Helper()
	var verified report.Verification
	if err := json.Unmarshal([]byte(must(t, "verify", image, "--level", "contract", "--strict", "--json").out), &verified); err != nil {
		t.Fatal(err)
	}
	return verified.Firmware
}

func TestADiskOfSeveralFileSystemsHoldsTheContract(t *testing.T) {
	testenv.NeedRoot(t)
	image := buildDisk(t, parts)
	partitions, size := names(t, image)
	if want := "bios-boot images var etcd scratch root"; strings.Join(partitions, " ") != want || size%(1<<30) != 0 || size > 8<<30 {
		t.Errorf("a disk of %d bytes with the partitions %q; want whole GiB, %s", size, partitions, want)
	}
	if got := holds(t, image); !slices.Equal(got, []string{"bios"}) {
		t.Errorf("checked for the firmware %q", got)
	}
	if r := nodesmith(t, "verify", image, "--level", "contract", "--firmware", "uefi"); r.exit == 0 || !strings.Contains(r.out, "disk.esp") {
		t.Errorf("it is good for UEFI, too: %s", r.out)
	}
}

func TestADiskForUEFIAloneHoldsTheContract(t *testing.T) {
	testenv.NeedRoot(t)
	image := buildDisk(t, "spec.disk={firmware: [uefi]}")
	if partitions, size := names(t, image); !slices.Equal(partitions, []string{"esp", "root"}) || size != 8<<30 {
		t.Errorf("a disk of %d bytes with the partitions %q", size, partitions)
	}
	if got := holds(t, image); !slices.Equal(got, []string{"uefi"}) {
		t.Errorf("checked for the firmware %q", got)
	}
}
