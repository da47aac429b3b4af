package vmtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/scratch"
)

// mac is the network card's address; assets/network-config matches it.
const mac = "52:54:00:6e:73:01"

// Options describe a machine. Zero values get the defaults named below.
type Options struct {
	Disk     Disk // never written
	Firmware Firmware
	Accel    Accel // default: what Accelerator says
	// Hardware is that of the infrastructure that the image is for; virtio's by
	// default.
	Hardware  infra.Hardware
	CPUs      int // default 2
	MemoryMiB int // default 2048
	// Growth is how many bytes larger the guest's disk is than the image: the
	// guest has to grow its root file system over them.
	Growth int64
	Seed   *Seed // nil: the machine has no seed
	// Console gets a copy of the serial console as it is written.
	Console io.Writer
	// TempDir takes the overlay, which grows by what the guest writes. Default
	// is os.TempDir.
	TempDir string
	// Overlay, if it is not empty, is the qcow2 file that the overlay is made as
	// and that stays. It is whole when the guest has switched the machine off
	// (Wait), and does not name the image behind it.
	Overlay string
	// Servers are what the guest reaches of this host, all else being closed to
	// it: an address of the guest's network (10.0.2.100:80) that leads to one of
	// this host (127.0.0.1:8080). socat carries each connection.
	Servers map[string]string
}

// Machine is a running virtual machine. It ends with the context it was started
// with, or by Close.
type Machine struct {
	options Options
	console *Console
	process *process
	close   context.CancelFunc
	gone    chan struct{} // closed when QEMU has ended and its files are removed

	checks   chan Check // holds all that a guest may report
	reported chan error // gets nil at the report's end, or what is wrong with it
	broken   chan error // gets what QEMU says is wrong with the host

	mu      sync.Mutex
	reasons []string // why the guest stopped, in QMP's words
}

// Start boots a machine that ctx owns: when ctx ends, QEMU is killed, and
// nothing of the machine is left. Errors are fault.MissingHost if the host lacks
// QEMU or a firmware, else what the file system or QEMU said.
func Start(ctx context.Context, options Options) (*Machine, error) {
	options = options.withDefaults(ctx)
	dir, err := scratch.New(options.TempDir, scratch.Prefix+"vm-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the machine: %w", err)
	}
	m, err := start(ctx, options, dir)
	if err != nil {
		_ = dir.Close() // what failed counts
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("start a %s machine: %w", options.Firmware, err)
	}
	return m, nil
}

func (o Options) withDefaults(ctx context.Context) Options {
	if o.Disk.Format == "" {
		o.Disk.Format = Raw
	}
	if o.Accel == "" {
		o.Accel, _ = Accelerator(ctx)
	}
	o.Hardware.Disk = cmp.Or(o.Hardware.Disk, infra.VirtioBlock)
	o.Hardware.Network = cmp.Or(o.Hardware.Network, infra.VirtioNet)
	o.Hardware = bootable(o.Firmware, o.Hardware)
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 2048
	}
	return o
}

// start makes the machine's files in dir, which the machine owns from then on,
// and waits until QEMU has opened them.
func start(ctx context.Context, options Options, dir *scratch.Dir) (*Machine, error) {
	args, err := prepare(ctx, options, dir.Path())
	if err != nil {
		return nil, err
	}
	report, guestReport, err := socketPair("report")
	if err != nil {
		return nil, err
	}
	defer guestReport.Close()
	control, guestControl, err := socketPair("control")
	if err != nil {
		report.Close()
		return nil, err
	}
	defer guestControl.Close()

	m := &Machine{
		options: options, console: NewConsole(options.Console), gone: make(chan struct{}),
		checks: make(chan Check, maxChecks), reported: make(chan error, 1), broken: make(chan error, 1),
	}
	cmd := exec.Command(qemuProgram, args...) //nolint:noctx // spawn kills the whole process group
	cmd.Stdout = m.console
	cmd.ExtraFiles = []*os.File{guestReport, guestControl} // descriptors 3 and 4
	ctx, m.close = context.WithCancel(ctx)
	if m.process, err = spawn(ctx, cmd); err != nil {
		m.close()
		report.Close()
		control.Close()
		return nil, err
	}
	go func() {
		defer close(m.gone)
		<-m.process.done
		m.close()
		report.Close()
		control.Close()
		_ = dir.Close() // the next machine removes it else
	}()
	ready := make(chan struct{})
	go m.control(control, ready)
	go func() { m.reported <- readReport(report, func(c Check) { m.checks <- c }) }()

	select {
	case <-ready:
		// QEMU holds its files open. Unlinked, they vanish with it, even when
		// this process is killed and can remove nothing.
		_ = dir.Close() // the next machine removes it else
		return m, nil
	case <-m.gone:
		return nil, m.exitError()
	}
}

// prepare makes the overlay, the seed and the firmware's variables in dir and
// returns QEMU's arguments.
func prepare(ctx context.Context, o Options, dir string) ([]string, error) {
	disk, err := o.disk(ctx, cmp.Or(o.Overlay, filepath.Join(dir, "overlay.qcow2")))
	if err != nil {
		return nil, err
	}
	firmware, err := firmwareArgs(o.Firmware, filepath.Join(dir, "vars.fd"))
	if err != nil {
		return nil, err
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.MemoryMiB),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=report,fd=3",
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=report,name=" + ChannelName,
		"-chardev", "socket,id=control,fd=4", "-mon", "chardev=control,mode=control",
		"-device", "virtio-rng-pci",
	}
	devices, err := o.devices()
	if err != nil {
		return nil, err
	}
	args = append(args, disk...)
	args = append(args, devices...)
	args = append(args, accels[o.Accel].args...)
	args = append(args, firmware...)
	if o.Seed != nil {
		seed := filepath.Join(dir, "seed.iso")
		if err := o.Seed.write(ctx, seed, dir); err != nil {
			return nil, err
		}
		args = append(args, "-drive", "if=none,id=seed,format=raw,readonly=on,file="+escape(seed))
	}
	return args, nil
}

func qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("qemu-img %s: %s", strings.Join(args, " "), printable(string(exit.Stderr), maxEvidence))
	}
	if err != nil {
		return nil, needQEMU("qemu-img", err)
	}
	return out, nil
}

// control speaks QMP (QEMU Machine Protocol): it closes ready when QEMU is
// initialised and notes why the guest stops.
func (m *Machine) control(conn io.ReadWriter, ready chan<- struct{}) {
	in := json.NewDecoder(conn)
	for greeted := false; ; {
		var message struct {
			Greeting json.RawMessage `json:"QMP"`
			Return   json.RawMessage `json:"return"`
			Event    string          `json:"event"`
			Data     struct {
				Reason  string `json:"reason"`
				NoSpace bool   `json:"nospace"`
			} `json:"data"`
		}
		if err := in.Decode(&message); err != nil {
			return // QEMU has ended; the process's end says how
		}
		switch {
		case message.Greeting != nil:
			if _, err := io.WriteString(conn, `{"execute":"qmp_capabilities"}`+"\n"); err != nil {
				return
			}
		case message.Return != nil && !greeted:
			greeted = true
			close(ready)
		case message.Event == "SHUTDOWN":
			m.mu.Lock()
			m.reasons = append(m.reasons, message.Data.Reason)
			m.mu.Unlock()
		case message.Event == "BLOCK_IO_ERROR":
			err := errors.New("QEMU could not read or write the machine's disk on this host")
			if message.Data.NoSpace {
				err = fault.New(fault.NoSpace, "free space there, or set TMPDIR to a larger file system",
					"no space left for the machine's overlay in %s", m.tempDir())
			}
			select {
			case m.broken <- err:
			default:
			}
		}
	}
}

func (m *Machine) tempDir() string {
	if m.options.TempDir != "" {
		return m.options.TempDir
	}
	return os.TempDir()
}

// Console returns what the guest wrote on its serial console.
func (m *Machine) Console() *Console { return m.console }

// Close kills the machine and returns when nothing of it is left.
func (m *Machine) Close() {
	m.close()
	<-m.gone
}

// Wait returns when the guest has ended its machine, by switching it off or by a
// restart, which ends it too. Any other end is an error, and so is an ended context.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.gone:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if m.process.err == nil {
		return nil
	}
	return m.ended(ctx)
}

// exitError says how QEMU ended.
func (m *Machine) exitError() error {
	if text := strings.TrimSpace(m.process.stderr.String()); text != "" {
		return fmt.Errorf("QEMU ended: %s", printable(text, maxEvidence))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.reasons) > 0 {
		return fmt.Errorf("the machine stopped (%s)", strings.Join(m.reasons, ", "))
	}
	return fmt.Errorf("QEMU ended: %w", errors.Join(errors.New("unexpectedly"), m.process.err))
}
