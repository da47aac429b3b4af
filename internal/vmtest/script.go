package vmtest

import (
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"time"
)

// Script is a program for /bin/sh that runs in the guest as root, after
// cloud-init took it from the seed, in a unit of its own. It sources report.sh,
// which lies beside it and holds the functions with which it reports.
type Script struct {
	Name   string            // of the entry among Files that is run
	Files  map[string][]byte // by base name; all lie in one directory
	Env    map[string]string
	Checks []CheckInfo // what it reports, in the order in which reports show it
	// Wrap makes the user-data that brings the script's own to cloud-init in the
	// way of some infrastructure; nil hands it over as it is.
	Wrap func(userData []byte) ([]byte, error)
}

// CheckInfo says what a check proves. A script that does not report it fails it.
type CheckInfo struct {
	ID     string
	Proves string
}

// guestDir is where a script's files lie in the guest: gone with its next boot.
const guestDir = "/run/nodesmith"

//go:embed assets/*.sh assets/*.yaml
var assets embed.FS

// scriptFiles reads embedded files, report.sh among them.
func scriptFiles(names ...string) map[string][]byte {
	files := map[string][]byte{}
	for _, name := range append(names, "report.sh") {
		data, err := assets.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // the file is embedded: only a wrong name in this package comes here
		}
		files[name] = data
	}
	return files
}

// bootScript checks what a node image promises after its first boot. diskSize
// is the size of the machine's disk in bytes, which the root file system fills.
func bootScript(diskSize int64) Script {
	return Script{
		Name:   "boot-report.sh",
		Files:  scriptFiles("boot-report.sh"),
		Env:    map[string]string{"DISK_SIZE": strconv.FormatInt(diskSize, 10)},
		Checks: bootChecks,
	}
}

// clusterScript forms a control plane in the guest by kubeadm init, with no
// network beyond the machine.
func clusterScript() Script {
	return Script{
		Name:   "kubeadm-init.sh",
		Files:  scriptFiles("kubeadm-init.sh", "kubeadm-v1beta3.yaml", "kubeadm-v1beta4.yaml"),
		Checks: clusterChecks,
	}
}

// then returns a script that runs s and then next, whatever s reports, in one
// boot and one report.
func (s Script) then(next Script) Script {
	both := Script{
		Name:   "scripts.sh",
		Files:  scriptFiles("scripts.sh"),
		Env:    map[string]string{"SCRIPTS": s.Name + " " + next.Name},
		Checks: slices.Concat(s.Checks, next.Checks),
		Wrap:   s.Wrap,
	}
	for _, part := range []Script{s, next} {
		maps.Copy(both.Files, part.Files)
		maps.Copy(both.Env, part.Env)
	}
	return both
}

// ScriptOf returns a script of the caller's, which sources report.sh from its own
// directory and reports the checks.
func ScriptOf(name string, text []byte, checks ...CheckInfo) Script {
	s := Script{Name: name, Files: scriptFiles(), Checks: checks}
	s.Files[name] = text
	return s
}

// Seed returns the bootstrap data that makes cloud-init run the script. The
// script waits for the end of a boot that cloud-init is part of, so it runs in
// a unit that cloud-init does not wait for.
func (s Script) Seed() (*Seed, error) {
	type file struct {
		Path        string `json:"path"`
		Permissions string `json:"permissions"`
		Encoding    string `json:"encoding"`
		Content     string `json:"content"`
	}
	config := struct {
		WriteFiles []file     `json:"write_files"`
		RunCmd     [][]string `json:"runcmd"`
	}{}
	for _, name := range sortedKeys(s.Files) {
		config.WriteFiles = append(config.WriteFiles, file{
			path.Join(guestDir, name), "0600", "b64", base64.StdEncoding.EncodeToString(s.Files[name]),
		})
	}
	command := []string{"systemd-run", "--no-block", "--unit=nodesmith-report", "--property=StandardOutput=journal+console"}
	for _, name := range sortedKeys(s.Env) {
		command = append(command, "--setenv="+name+"="+s.Env[name])
	}
	config.RunCmd = append(config.RunCmd, append(command, "/bin/sh", path.Join(guestDir, s.Name)))

	var userData bytes.Buffer
	userData.WriteString("#cloud-config\n") // YAML, of which JSON is a part
	if err := json.NewEncoder(&userData).Encode(config); err != nil {
		return nil, fmt.Errorf("write the user-data of %s: %w", s.Name, err)
	}
	if s.Wrap == nil {
		return &Seed{UserData: userData.Bytes()}, nil
	}
	wrapped, err := s.Wrap(userData.Bytes())
	if err != nil {
		return nil, fmt.Errorf("wrap the user-data of %s: %w", s.Name, err)
	}
	return &Seed{UserData: wrapped}, nil
}

// RunOptions describe one boot with a script. Its Seed is overwritten.
type RunOptions struct {
	Options
	// Deadline bounds the boot and its report. Default: the accelerator's.
	Deadline time.Duration
	// clusterTime adds the accelerator's time for a control plane to the default.
	clusterTime bool
	// Notify, if not nil, gets a line for a person whenever something happens.
	Notify func(line string)
}

// Run boots a machine with script in its seed, waits for its report and kills
// it. A check that failed is no error; the result's verdict says it. Errors are
// those of Start and WaitReport, and then the result holds what came so far.
func Run(ctx context.Context, options RunOptions, script Script) (BootResult, error) {
	result := BootResult{Firmware: options.Firmware, Verdict: Fail}
	notify := func(format string, args ...any) {
		if options.Notify != nil {
			options.Notify(fmt.Sprintf("%s: %s", options.Firmware, fmt.Sprintf(format, args...)))
		}
	}
	fail := func(err error) (BootResult, error) {
		result.Error = err.Error()
		return result, err
	}
	why := "as asked"
	if options.Accel == "" {
		options.Accel, why = Accelerator(ctx)
	}
	if options.Deadline == 0 {
		options.Deadline = accels[options.Accel].boot
		if options.clusterTime {
			options.Deadline += accels[options.Accel].cluster
		}
	}
	options.Options = options.withDefaults(ctx)
	result.Accelerator, result.AcceleratorReason = options.Accel, why
	result.Disk, result.Network = options.Hardware.Disk, options.Hardware.Network
	seed, err := script.Seed()
	if err != nil {
		return fail(err)
	}
	options.Seed = seed

	notify("starting under %s (%s), at most %s", options.Accel, why, options.Deadline)
	checks, seconds, err := attempt(ctx, options, notify)
	if errors.Is(err, errStarved) {
		notify("the host left QEMU no time for the guest's clock: once more")
		checks, seconds, err = attempt(ctx, options, notify)
	}
	result.Seconds = seconds
	result.Checks = complete(checks, script.Checks)
	if err != nil {
		return fail(err)
	}
	result.Verdict = verdict(result.Checks)
	return result, nil
}

// attempt boots a machine once and returns what it reported, and the seconds from
// QEMU's start to the report's end.
func attempt(ctx context.Context, options RunOptions, notify func(format string, args ...any)) ([]Check, float64, error) {
	begin := time.Now()
	m, err := Start(ctx, options.Options)
	if err != nil {
		return nil, 0, err
	}
	defer m.Close()
	seen := 0
	checks, err := m.WaitReport(ctx, options.Deadline, func(c Check) {
		if seen++; seen == 1 {
			notify("the guest reports after %.0f s", time.Since(begin).Seconds())
		}
		if c.Status != Pass {
			notify("%s failed: %s", c.ID, c.Evidence)
		}
	})
	return checks, time.Since(begin).Round(100 * time.Millisecond).Seconds(), err
}
