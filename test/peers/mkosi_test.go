package peers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// mkosiTree is where scripts/install-mkosi.sh puts Debian 13 with mkosi.
func mkosiTree(b *testing.B) string {
	b.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(cache, "nodesmith-test", "mkosi")
	if _, err := os.Stat(filepath.Join(dir, "usr", "bin", "mkosi")); err != nil {
		b.Fatalf("%v; run scripts/install-deps.sh peers", err)
	}
	return dir
}

// inTree is a program that runs in that tree, in a folder of ours.
func inTree(b *testing.B, tree, work string, command ...string) *exec.Cmd {
	b.Helper()
	args := append([]string{"--mount", "--propagation", "private", "testdata/in-tree.sh", tree, work}, command...)
	cmd := exec.CommandContext(b.Context(), "unshare", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb"}
	return cmd
}

// mkosi makes a disk of packages, and of what they depend on, from the archive in a
// folder, all in memory, and returns it.
func (s *system) mkosi(b *testing.B, tree, work string, packages []string) string {
	b.Helper()
	args := []string{
		"mkosi", "--release=" + s.suite(), "--local-mirror=file:///srv/archive",
		"--package=" + strings.Join(packages, ","),
		"build",
	}
	ran(b, inTree(b, tree, work, args...))
	return filepath.Join(work, "output", "disk.raw")
}

// fillWork puts mkosi's configuration and the archive into a folder.
func (s *system) fillWork(b *testing.B, work string) {
	b.Helper()
	if err := os.CopyFS(work, os.DirFS("testdata/mkosi")); err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"workspace", "cache", "output"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	s.localArchive(b, filepath.Join(work, "archive"), s.lock.OS.Packages)
}

// Both begin with the packages on the disk and nothing else, and end with a disk
// that boots on BIOS and UEFI. mkosi works in memory, nodesmith once there and once on
// the disk. Neither makes the root file system smaller than its partition. Afterwards, outside the time, both disks boot.
func BenchmarkBootableDisk(b *testing.B) {
	testenv.Need(b, "unshare", "qemu-system-x86_64")
	s, tools := newSystem(b), mkosiTree(b)
	version, err := inTree(b, tools, b.TempDir(), "mkosi", "--version").Output()
	if err != nil {
		b.Fatal(err)
	}
	peer := strings.Join(strings.Fields(string(version)), "-")
	what := fmt.Sprintf("bootable disk, %d packages", len(s.lock.OS.Packages))
	memory, disk := pairs{medium: "in-memory"}, pairs{medium: "on-disk"}
	for b.Loop() {
		var inMem, onDisk, theirs cost
		inMemory(b, func(dir string) {
			inMem = spent(b, func() { s.build(b, dir, true) })
			b.StopTimer()
			boots(b, "nodesmith's disk", filepath.Join(dir, diskFile))
			b.StartTimer()
		})
		onDisk = spent(b, func() { s.build(b, b.TempDir(), true) })
		inMemory(b, func(work string) {
			s.fillWork(b, work)
			var made string
			theirs = spent(b, func() { made = s.mkosi(b, tools, work, names(s.lock.OS.Packages)) })
			b.StopTimer()
			boots(b, peer+"'s disk", made)
			b.StartTimer()
		})
		memory.add(b, what, peer, inMem, theirs)
		disk.add(b, what, peer, onDisk, theirs)
	}
}

// boots boots a raw disk on each firmware, to the prompt of its serial console.
func boots(b *testing.B, what, disk string) {
	b.Helper()
	for _, firmware := range []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI} {
		prompt := &prompt{text: []byte("login:"), came: make(chan struct{})}
		ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
		took := spent(b, func() {
			m, err := vmtest.Start(ctx, vmtest.Options{Disk: vmtest.Disk{Path: disk}, Firmware: firmware, Console: prompt})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			select {
			case <-prompt.came:
			case <-ctx.Done():
				b.Fatalf("%s did not boot on %s:\n%s", what, firmware, strings.Join(m.Console().Tail(30), "\n"))
			}
		})
		cancel()
		fmt.Printf("%s boots on %s: %.0f s to its prompt\n", what, firmware, took.wall.Seconds())
	}
}

// prompt is a writer that says when a text has come.
type prompt struct {
	text, last []byte
	came       chan struct{}
	once       sync.Once
}

func (p *prompt) Write(data []byte) (int, error) {
	p.last = append(p.last, data...)
	if bytes.Contains(p.last, p.text) {
		p.once.Do(func() { close(p.came) })
	}
	p.last = p.last[max(0, len(p.last)-len(p.text)):]
	return len(data), nil
}
