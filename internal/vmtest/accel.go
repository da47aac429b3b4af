package vmtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/scratch"
)

// Accel is what runs a guest's instructions.
type Accel string

// The accelerators. QEMU knows others; these are the two that a Linux host of
// this architecture can have.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// accels holds what differs between accelerators.
//
// TCG's processor is not "max": with it QEMU 7.2 corrupts systemd's mounts.
// Nehalem is the oldest model that has what x86-64-v2 userlands need. It passes
// for an Atom (Bonnell, model 28 of Intel's family 6), for two properties that
// Linux ascribes to that one:
//   - It does not speculate (arch/x86/kernel/cpu/common.c, cpu_vuln_whitelist), so
//     page tables need no isolation from Meltdown, which switches them twice a
//     system call, and each switch empties QEMU's TLB (kubeadm init: 292 s without
//     it, over 600 s with it).
//   - Its time-stamp counter is the same on all CPUs (arch/x86/kernel/tsc.c,
//     unsynchronized_tsc), which Linux does not believe of AMD's. Else it asks the
//     HPET for the time, a device behind QEMU's global lock.
var accels = map[Accel]struct {
	args    []string
	boot    time.Duration // one boot may take to the end of its report
	cluster time.Duration // forming a control plane may take after that
}{
	KVM: {[]string{"-accel", "kvm", "-cpu", "host"}, 3 * time.Minute, 7 * time.Minute},
	TCG: {[]string{"-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand,model=28"}, 10 * time.Minute, 25 * time.Minute},
}

//go:generate sh -c "as -o probe.o assets/probe.S && ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o assets/probe.bin probe.o && rm probe.o"

// probeGuest is a boot sector; assets/probe.S is its source.
//
//go:embed assets/probe.bin
var probeGuest []byte

const (
	probeDeadline = 5 * time.Second
	// probePassed is QEMU's exit code after assets/probe.S wrote 0x10 to
	// isa-debug-exit: (0x10 << 1) | 1.
	probePassed = 33
	// probeDiskSize is in bytes: SeaBIOS does not boot from a disk of one sector.
	probeDiskSize = 1 << 20

	qemuProgram = "qemu-system-x86_64"
)

// chosen is the one answer per process: a probe takes up to probeDeadline, and
// what it finds does not change while the process runs.
var chosen struct {
	sync.Mutex
	accel Accel
	why   string
}

// Accelerator returns KVM where a guest of ours ran on it, else TCG, and says
// why. That /dev/kvm is there is not believed: on some hosts it opens, and
// ordinary kernels hang. The answer is found once per process; an ended context
// gives TCG without being remembered.
func Accelerator(ctx context.Context) (Accel, string) {
	chosen.Lock()
	defer chosen.Unlock()
	if chosen.accel != "" {
		return chosen.accel, chosen.why
	}
	accel, why := KVM, "a test guest ran on KVM"
	if err := probe(ctx, KVM, probeDeadline); err != nil {
		accel, why = TCG, fmt.Sprintf("KVM is not usable: %v", err)
	}
	if ctx.Err() == nil {
		chosen.accel, chosen.why = accel, why
	}
	return accel, why
}

// probe runs the probe guest and returns nil if it came to its end within the
// given time.
func probe(ctx context.Context, accel Accel, within time.Duration) error {
	if accel == KVM {
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.Close()
	}
	dir, err := scratch.New("", scratch.Prefix+"probe-")
	if err != nil {
		return fmt.Errorf("make a directory for the test guest: %w", err)
	}
	defer func() { _ = dir.Close() }() // the next one removes it else
	disk := filepath.Join(dir.Path(), "probe.img")
	if err := os.WriteFile(disk, probeGuest, 0o600); err != nil {
		return fmt.Errorf("write the test guest: %w", err)
	}
	if err := os.Truncate(disk, probeDiskSize); err != nil {
		return fmt.Errorf("write the test guest: %w", err)
	}

	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	args := append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-m", "32",
		"-device", "isa-debug-exit,iobase=0xf4",
		"-drive", "if=virtio,format=raw,file=" + escape(disk),
	}, accels[accel].args...)
	p, err := spawn(ctx, exec.Command(qemuProgram, args...)) //nolint:noctx // spawn kills the whole process group
	if err != nil {
		return err
	}
	<-p.done
	return judgeProbe(ctx.Err(), p.err, p.stderr.String())
}

// judgeProbe turns the end of a probe (what became of its context, how QEMU
// exited, what it said) into nil or the reason why the accelerator is unusable.
func judgeProbe(ended, exit error, stderr string) error {
	if e, ok := errors.AsType[*exec.ExitError](exit); ok && e.ExitCode() == probePassed {
		return nil
	}
	if errors.Is(ended, context.DeadlineExceeded) {
		return errors.New("a test guest that takes a fraction of a second did not end in time")
	}
	if ended != nil {
		return ended
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n"); line != "" {
		return fmt.Errorf("QEMU: %s", printable(line, maxEvidence))
	}
	return fmt.Errorf("a test guest ended early: %w", exit)
}

// needQEMU is the error for a host without program.
func needQEMU(program string, err error) error {
	return fault.New(fault.MissingHost, "install QEMU (Debian, Ubuntu: apt-get install qemu-system-x86 qemu-utils)",
		"start %s: %w", program, err)
}
