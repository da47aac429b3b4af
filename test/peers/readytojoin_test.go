package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

const (
	// growth is how much larger than the node's image the disks of both guests are,
	// in bytes: both have to grow their root file system.
	growth = 2 << 30
	// bootDeadline bounds a guest that installs everything on an emulated processor.
	bootDeadline = 90 * time.Minute
	// offDeadline bounds how long a guest takes to switch itself off.
	offDeadline = 10 * time.Minute
)

// Both machines are the same but for their disks, and cloud-init runs a script from
// the seed of each. The time ends when that script sees containerd run, all container
// images in it and kubelet waiting for kubeadm. Where there is a choice, it favours the
// plain system: what it installs comes uncompressed or as the node has it, from this
// host's memory, with no signature to check, and its images are pulled all at once.
//
// Afterwards, outside the time, kubeadm's preflight checks have to pass on both. The
// plain system is tidied and trimmed, and its disk packed as the node's was.
func BenchmarkReadyToJoin(b *testing.B) {
	testenv.NeedRoot(b)
	testenv.Need(b, "runc", "unshare", "socat", "qemu-system-x86_64", "qemu-img")
	node := buildNode(b)
	s := openSystem(b, node.lock)
	plain := s.plain(b)
	script := vmtest.ScriptOf("ready.sh", guestScript(b, "ready.sh"))
	script.Env = map[string]string{"IMAGES": strings.Join(node.images(), " ")}
	installing := s.installing(b, script)

	// Asked here, for it may take seconds to find out.
	accel, why := vmtest.Accelerator(b.Context())
	fmt.Printf("guests run under %s: %s\n", accel, why)
	m := machine{size: node.size + growth, server: node.serve(b, plain.archive), accel: accel}
	var ours, theirs time.Duration
	for b.Loop() {
		dir := b.TempDir()
		overlay := filepath.Join(dir, "overlay.qcow2")
		mine := m.ready(b, "nodesmith's image", node.path, script, "")
		other := m.ready(b, "plain Debian", plain.path, installing, overlay)
		ours, theirs = ours+mine, theirs+other
		fmt.Printf("power-on to ready to join: nodesmith %.1f s, plain Debian with cloud-init %.1f s: %.2f\n",
			mine.Seconds(), other.Seconds(), mine.Seconds()/other.Seconds())
		b.ReportMetric(ours.Seconds()/theirs.Seconds(), "wall-of-cloud-init")

		size, installed := bytesOf(b, node.path), bytesOf(b, plain.installed(b, overlay, dir))
		fmt.Printf("compressed (qcow2, zstd): nodesmith %.1f MB, plain Debian %.1f MB, afterwards %.1f MB: %.3f\n",
			size/1e6, bytesOf(b, plain.path)/1e6, installed/1e6, size/installed)
		b.ReportMetric(size/installed, "size-of-cloud-init")
		if err := os.RemoveAll(dir); err != nil { // gigabytes
			b.Fatal(err)
		}
	}
}

// machine is what both guests have.
type machine struct {
	size   int64  // of the disk, bytes
	server string // address on this host
	accel  vmtest.Accel
}

// ready boots a qcow2 image and returns how long after the start of QEMU its script
// said that it is ready to join. If the guest's writes are kept in an overlay, the guest
// has to switch itself off after its report.
func (m machine) ready(b *testing.B, what, image string, script vmtest.Script, overlay string) time.Duration {
	b.Helper()
	seed, err := script.Seed()
	if err != nil {
		b.Fatal(err)
	}
	disk := vmtest.Disk{Path: image, Format: vmtest.QCOW2}
	size, err := disk.Size(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("%s:\n", what)
	start := time.Now()
	guest, err := vmtest.Start(b.Context(), vmtest.Options{
		Disk: disk, Firmware: vmtest.BIOS, Accel: m.accel, Growth: m.size - size, Seed: seed,
		Overlay: overlay, Servers: map[string]string{guestServer + ":80": m.server},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer guest.Close()
	var took time.Duration
	_, err = guest.WaitReport(b.Context(), bootDeadline, func(c vmtest.Check) {
		at := time.Since(start)
		if c.ID == "ready" {
			took = at
		}
		fmt.Printf("    %6.1f s  %s: %.100s\n", at.Seconds(), c.ID, c.Evidence)
		if c.Status != vmtest.Pass {
			b.Errorf("%s: %s: %s", what, c.ID, c.Evidence)
		}
	})
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	if took == 0 || b.Failed() {
		b.Fatalf("%s did not become ready to join", what)
	}
	if overlay != "" {
		ctx, cancel := context.WithTimeout(b.Context(), offDeadline)
		defer cancel()
		if err := guest.Wait(ctx); err != nil {
			b.Fatalf("%s did not switch itself off: %v", what, err)
		}
	}
	return took
}

// bytesOf is how large a file is.
func bytesOf(b *testing.B, path string) float64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size())
}
