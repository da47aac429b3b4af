package vmtest

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// How a test's guest goes on after it has printed its text: x86 machine code.
var (
	thenHang  = []byte{0xfa, 0xf4, 0xeb, 0xfd}             // cli; 1: hlt; jmp 1b
	thenReset = []byte{0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfa} // 1: mov $0xfe, %al; out %al, $0x64; jmp 1b
	// ACPI's S5, where SeaBIOS puts the register PM1a: mov $0x604, %dx; mov $0x2000, %ax; out %ax, %dx
	thenOff = append([]byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef}, thenHang...)
)

// guest writes a disk whose boot sector prints text on the first serial port.
func guest(t *testing.T, text string, then []byte) string {
	t.Helper()
	code := []byte{
		0x31, 0xc0, // xor %ax, %ax
		0x8e, 0xd8, // mov %ax, %ds
		0xfc,       // cld
		0xbe, 0, 0, // mov $text, %si
		0xba, 0xf8, 0x03, // mov $0x3f8, %dx
		0xac,       // 1: lodsb
		0x84, 0xc0, // test %al, %al
		0x74, 0x03, // jz 2f
		0xee,       // out %al, (%dx)
		0xeb, 0xf8, // jmp 1b
	} // 2:
	code = append(code, then...)
	binary.LittleEndian.PutUint16(code[6:], uint16(0x7c00+len(code)))
	code = append(code, text+"\x00"...)
	sector := make([]byte, 512)
	if copy(sector, code) != len(code) || len(code) > 510 {
		t.Fatalf("%d bytes do not fit a boot sector", len(code))
	}
	sector[510], sector[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "guest, with a comma.raw")
	if err := os.WriteFile(path, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tiny are the options of a machine for a guest of one sector.
func tiny(t *testing.T, disk string) Options {
	testenv.Need(t, qemuProgram, "qemu-img")
	return Options{Disk: Disk{Path: disk}, Firmware: BIOS, Accel: TCG, CPUs: 1, MemoryMiB: 32, Growth: 1 << 20, TempDir: t.TempDir()}
}

func TestAcceleratorIsOneThatRunsAGuest(t *testing.T) {
	testenv.Need(t, qemuProgram)
	if err := probe(t.Context(), TCG, time.Minute); err != nil {
		t.Fatalf("the probe guest fails where it must not: %v", err)
	}
	accel, why := Accelerator(t.Context())
	t.Logf("%s: %s", accel, why)
	begin := time.Now()
	if again, _ := Accelerator(t.Context()); again != accel || time.Since(begin) > time.Second {
		t.Errorf("asked again: %s after %s", again, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := probe(ctx, TCG, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled probe: %v", err)
	}
}

func TestProbeThatFailsSaysWhy(t *testing.T) {
	exit := func(code string) error { return exec.Command("sh", "-c", "exit "+code).Run() }
	tests := []struct {
		name        string
		ended, exit error
		stderr      string
		want        string
	}{
		{"passed", nil, exit("33"), "a warning\n", ""},
		{"hang", context.DeadlineExceeded, errors.New("signal: killed"), "", "did not end in time"},
		{"interrupted", context.Canceled, errors.New("signal: killed"), "", "context canceled"},
		{"refused", nil, exit("1"), "failed to set MSR 0x10a\nassertion\n", "QEMU: failed to set MSR 0x10a"},
		{"reset", nil, nil, "", "ended early"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := judgeProbe(tt.ended, tt.exit, tt.stderr)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestProbeGuestIsMadeFromItsSource(t *testing.T) {
	testenv.Need(t, "as", "ld")
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("as", "-o", dir+"/probe.o", "assets/probe.S")
	run("ld", "-m", "elf_x86_64", "-Ttext", "0x7c00", "--oformat", "binary", "-o", dir+"/probe.bin", dir+"/probe.o")
	made, err := os.ReadFile(dir + "/probe.bin")
	if err != nil || string(made) != string(probeGuest) {
		t.Errorf("assets/probe.bin is not what go generate makes of assets/probe.S (%v)", err)
	}
}

func TestHangEndsAtTheDeadlineWithTheConsole(t *testing.T) {
	m, err := Start(t.Context(), tiny(t, guest(t, "\r\nfirst\r\nhanging here\r\n", thenHang)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.WaitReport(t.Context(), 3*time.Second, nil)
	if fault.KindOf(err) != fault.Guest {
		t.Fatalf("%v: %v", fault.KindOf(err), err)
	}
	for _, want := range []string{"bios", "within 3s", "\n    first\n    hanging here"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q misses %q", err, want)
		}
	}
}

func TestGuestThatDiesIsRecognisedAtOnce(t *testing.T) {
	tests := []struct {
		name, text string
		then       []byte
		want       string
	}{
		{"panic", "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n---[ end\r\n", thenHang, "the kernel panicked"},
		{"rescue prompt", "error: no such device.\r\nEntering rescue mode...\r\ngrub rescue> ", thenHang, "rescue prompt"},
		{"reset", "restarting\r\n", thenReset, "the machine stopped (guest-reset)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Start(t.Context(), tiny(t, guest(t, tt.text, tt.then)))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			begin := time.Now()
			_, err = m.WaitReport(t.Context(), time.Minute, nil)
			if fault.KindOf(err) != fault.Guest || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), strings.Fields(tt.text)[0]) {
				t.Errorf("%q misses the console", err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestAnOverlayThatIsKeptOutlivesItsMachine(t *testing.T) {
	options := tiny(t, guest(t, "switching off\r\n", thenOff))
	options.Overlay = filepath.Join(t.TempDir(), "kept.qcow2")
	m, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if size, err := (Disk{Path: options.Overlay, Format: QCOW2}).Size(t.Context()); err != nil || size <= options.Growth {
		t.Errorf("the overlay has %d bytes, %v", size, err)
	}
	if left, _ := os.ReadDir(options.TempDir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestWaitingForAMachineThatGoesOnEndsWithTheContext(t *testing.T) {
	m, err := Start(t.Context(), tiny(t, guest(t, "waiting\r\n", thenHang)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := m.Wait(ctx); !errors.Is(err, cause) {
		t.Error(err)
	}
	m.Close()
	if err := m.Wait(t.Context()); fault.KindOf(err) != fault.Guest {
		t.Errorf("of a machine that was killed: %v", err)
	}
}

func TestDiskWithoutABootLoaderIsRecognised(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Start(t.Context(), tiny(t, disk))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err = m.WaitReport(t.Context(), time.Minute, nil); err == nil || !strings.Contains(err.Error(), "nothing to boot") {
		t.Error(err)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	disk := guest(t, "waiting\r\n", thenHang)
	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	options := tiny(t, disk)
	options.Seed = &Seed{UserData: []byte("#cloud-config\n")}
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	m, err := Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	pid := m.process.pid
	time.AfterFunc(300*time.Millisecond, func() { cancel(cause) })
	if _, err := m.WaitReport(ctx, time.Minute, nil); !errors.Is(err, cause) {
		t.Errorf("%v, want %v", err, cause)
	}
	begin := time.Now()
	<-m.gone
	if took := time.Since(begin); took > time.Second {
		t.Errorf("QEMU ended %s after the context", took)
	}
	if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process group %d is still there: %v", pid, err)
	}
	if left, _ := os.ReadDir(options.TempDir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	if after, err := os.ReadFile(disk); err != nil || string(after) != string(before) {
		t.Errorf("the image was written (%v)", err)
	}
}

// A process that is killed can't clean up: the kernel has to.
func TestKilledParentLeavesNoMachine(t *testing.T) {
	if dir := os.Getenv("VMTEST_CHILD_DIR"); dir != "" {
		m, err := Start(t.Context(), Options{Disk: Disk{Path: os.Getenv("VMTEST_CHILD_DISK")}, Firmware: BIOS, Accel: TCG, CPUs: 1, MemoryMiB: 32, TempDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_ = os.WriteFile(os.Getenv("VMTEST_CHILD_PID"), []byte(strconv.Itoa(m.process.pid)), 0o600)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	disk := guest(t, "waiting\r\n", thenHang)
	options, note := tiny(t, disk), filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledParentLeavesNoMachine$")
	cmd.Env = append(os.Environ(), "VMTEST_CHILD_DIR="+options.TempDir, "VMTEST_CHILD_DISK="+disk, "VMTEST_CHILD_PID="+note)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	data, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if syscall.Kill(pid, 0) != nil || isZombie(pid) {
			if left, _ := os.ReadDir(options.TempDir); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("QEMU %d outlived its parent", pid)
}

// isZombie says whether a process has ended and waits for a foster parent.
func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestMachineThatCannotStartSaysWhy(t *testing.T) {
	disk := guest(t, "", thenHang)
	tests := []struct {
		name   string
		change func(*Options)
		kind   fault.Kind
		want   string
	}{
		{"no image", func(o *Options) { o.Disk.Path = "/nonexistent.raw" }, fault.Usage, "nonexistent.raw"},
		{"unknown format", func(o *Options) { o.Disk.Format = "vdi" }, fault.Usage, `unknown format "vdi"`},
		{"wrong format", func(o *Options) { o.Disk.Format = QCOW2 }, fault.Internal, "not in qcow2 format"},
		{"unknown firmware", func(o *Options) { o.Firmware = "openboot" }, fault.Usage, `unknown firmware "openboot"`},
		{"QEMU refuses", func(o *Options) { o.MemoryMiB = -1 }, fault.Internal, "QEMU ended: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			options := tiny(t, disk)
			tt.change(&options)
			m, err := Start(t.Context(), options)
			if err == nil {
				m.Close()
				t.Fatal("it started")
			}
			if fault.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: %v, want %v: %s", fault.KindOf(err), err, tt.kind, tt.want)
			}
			if left, _ := os.ReadDir(options.TempDir); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

func TestFirmwareThatIsMissingNamesItsPackage(t *testing.T) {
	dir := t.TempDir()
	code := filepath.Join(dir, "CODE.fd")
	if err := os.WriteFile(code, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := findFlash(UEFI, []flash{{code, filepath.Join(dir, "VARS.fd")}})
	if fault.KindOf(err) != fault.MissingHost || !strings.Contains(fault.RemedyOf(err), "apt-get install ovmf") || !strings.Contains(err.Error(), code) {
		t.Errorf("%v (%s)", err, fault.RemedyOf(err))
	}
	if got, err := findFlash(UEFI, []flash{{dir, dir}, {code, code}}); err != nil || got.code != code {
		t.Errorf("%v, %v", got, err)
	}
}
