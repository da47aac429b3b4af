// Package test holds the tests that span the whole program: they run
// bin/nodesmith as a user would, on real archives, and boot what it built.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const (
	program = "../bin/nodesmith"
	example = "../examples/debian-12.yaml"
)

// built is the folder with the example's image, which TestMain builds once: the
// file for QEMU, and a raw one for who changes bytes of the disk.
var built string

// qcow2 and raw are the paths of the two.
func qcow2() string { return filepath.Join(built, "debian-12-qemu.qcow2") }
func raw() string   { return filepath.Join(built, "debian-12-qemu.raw") }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 { // each test then says that it is skipped, or fails
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "nodesmith-test-")
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	defer os.RemoveAll(dir)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() { // gigabytes that a test's end would have removed
		<-interrupted
		os.RemoveAll(dir)
		os.Exit(130)
	}()
	built = filepath.Join(dir, "debian-12")
	// A store of the tests' own: what an earlier run put into the user's would
	// answer for steps that are to be seen here. And the user's times stay theirs.
	for _, name := range []string{"XDG_DATA_HOME", "XDG_STATE_HOME"} {
		if err := os.Setenv(name, filepath.Join(dir, name)); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			return 1
		}
	}
	start := time.Now()
	build := exec.Command(program, "build", "-f", example, "-o", built, "--set", "spec.formats=[raw]", "--progress", "plain")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		os.Stderr.WriteString("building the example: " + err.Error() + "\n")
		return 1
	}
	os.Stderr.WriteString("built the example in " + time.Since(start).String() + "\n")
	return m.Run()
}

// result is what one run of nodesmith did.
type result struct {
	out, err string
	exit     int
}

// nodesmith runs the program.
func nodesmith(t *testing.T, args ...string) result {
	t.Helper()
	testenv.NeedRoot(t)
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must is nodesmith for what has to succeed.
func must(t *testing.T, args ...string) result {
	t.Helper()
	r := nodesmith(t, args...)
	if r.exit != 0 {
		t.Fatalf("nodesmith %v: exit code %d\n%s", args, r.exit, r.err)
	}
	return r
}

// events returns the lines of --progress json.
func events(t *testing.T, progress string) (all []report.Progress) {
	t.Helper()
	for line := range strings.Lines(progress) {
		var e report.Progress
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// stepsRun lists the steps that ran in the engine, by the events of a build, in the
// order in which they ended.
func stepsRun(t *testing.T, told string) (ran []string) {
	t.Helper()
	for _, e := range events(t, told) {
		inEngine := strings.HasPrefix(e.ID, "sha256:") && e.Stage != "" && !e.Input()
		if inEngine && e.Type == progress.Finished && !slices.Contains(ran, e.Step) {
			ran = append(ran, e.Step)
		}
	}
	return ran
}

func TestBuildPutsTheImageAndItsLockIntoTheFolder(t *testing.T) {
	testenv.NeedRoot(t)
	entries, err := os.ReadDir(built)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "debian-12-qemu.manifest.json debian-12-qemu.qcow2 debian-12-qemu.raw debian-12.lock.yaml"; got != want {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
	for image, most := range map[string]int64{raw(): 4 << 30, qcow2(): 1 << 30} {
		info, err := os.Stat(image)
		if err != nil {
			t.Fatal(err)
		}
		if stored := info.Sys().(*syscall.Stat_t).Blocks * 512; stored > most || info.Mode() != 0o644 {
			t.Errorf("%s: %d bytes stored, mode %v; want at most %d and 0644", image, stored, info.Mode(), most)
		}
	}
}

func TestTheStoreListsTheImageForPrograms(t *testing.T) {
	testenv.NeedRoot(t)
	out := must(t, "images", "--json").out
	reporttest.Validate(t, report.ImagesKind, []byte(out))
	if !strings.Contains(out, `"debian-12"`) {
		t.Errorf("no debian-12 in\n%s", out)
	}
}

func TestTheLockNamesNoMirror(t *testing.T) {
	testenv.NeedRoot(t)
	lock, err := os.ReadFile(filepath.Join(built, "debian-12.lock.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`https?://[^/\s]+`).FindAllString(string(lock), -1) {
		if m != "http://deb.debian.org" {
			t.Fatalf("the lock names %s", m)
		}
	}
}

func TestASecondBuildRunsNoStepAndLeavesTheFilesAlone(t *testing.T) {
	testenv.NeedRoot(t)
	before := map[string]os.FileInfo{}
	for _, image := range []string{qcow2(), raw()} {
		info, err := os.Stat(image)
		if err != nil {
			t.Fatal(err)
		}
		before[image] = info
	}
	r := must(t, "build", "-f", example, "-o", built, "--set", "spec.formats=[raw]", "--locked", "--progress", "json")
	if got, want := strings.Fields(r.out), []string{qcow2(), raw()}; !slices.Equal(got, want) {
		t.Errorf("stdout is %q, want the images' paths %q", got, want)
	}
	if ran := stepsRun(t, r.err); len(ran) > 0 {
		t.Errorf("steps ran: %q", ran)
	}
	for image, info := range before {
		after, err := os.Stat(image)
		if err != nil || !os.SameFile(info, after) || !info.ModTime().Equal(after.ModTime()) {
			t.Errorf("%s was written again (%v)", image, err)
		}
	}
}

func TestBuildPrintsOneDocumentForPrograms(t *testing.T) {
	testenv.NeedRoot(t)
	var documents [2]report.Build
	for i := range documents {
		r := must(t, "build", "-f", example, "-o", built, "--set", "spec.formats=[raw]", "--locked", "--json")
		reporttest.Validate(t, report.BuildKind, []byte(r.out))
		if err := json.Unmarshal([]byte(r.out), &documents[i]); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"STAGE", "formats", "nodesmith verify debian-12:"} {
			if !strings.Contains(r.err, want) {
				t.Errorf("no %s in\n%s", want, r.err)
			}
		}
	}
	for _, s := range documents[1].Stages {
		if !s.Cached || s.Seconds > 0 || s.SizeBytes == 0 && s.Name != "node" {
			t.Errorf("%+v of a build that had nothing to do", s)
		}
	}
	for i, path := range []string{qcow2(), raw()} {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		want, err := digest.FromReader(file)
		if err != nil {
			t.Fatal(err)
		}
		a := documents[0].Artifacts[i]
		if a.Path != path || a.Digest != want.String() || a.Infrastructure != "qemu" || a.Architecture != "amd64" || a != documents[1].Artifacts[i] {
			t.Errorf("%+v, then %+v; want digest %s", a, documents[1].Artifacts[i], want)
		}
	}
}

func TestAUsersFileChangesTheNodeAndNothingBelow(t *testing.T) {
	dir := t.TempDir()
	takeLock(t, dir)
	r := must(t, "build", "-f", example, "-o", dir, "--locked", "--progress", "json",
		"--set", "spec.files=[{path: /etc/motd, content: "+t.Name()+time.Now().String()+"}]")
	if got, want := strings.Join(stepsRun(t, r.err), ", "), "node: configure, qemu: assemble disk"; got != want {
		t.Errorf("steps that ran: %s; want %s", got, want)
	}
	sendsUnderTwoPercent(t, qcow2(), filepath.Join(dir, "debian-12-qemu.qcow2"))
}

func TestLockedNeedsALockThatFits(t *testing.T) {
	dir := t.TempDir()
	if r := nodesmith(t, "build", "-f", example, "-o", dir, "--locked"); r.exit != fault.BadSpec.ExitCode() || !strings.Contains(r.err, "run nodesmith lock first") {
		t.Errorf("without a lock: exit code %d\n%s", r.exit, r.err)
	}
	r := nodesmith(t, "build", "-f", example, "-o", built, "--locked", "--set", "spec.packages=[jq]")
	if r.exit != fault.BadSpec.ExitCode() || !strings.Contains(r.err, "made for other inputs") {
		t.Errorf("with a stale lock: exit code %d\n%s", r.exit, r.err)
	}
}

func TestCtrlCEndsABuildAndLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	for name, marker := range map[string]string{
		"reading inputs":      `"started".*"input: `,
		"unpacking":           `unpacked \d+ packages`,
		"within a program":    `"output".*"(os: configure|kubernetes: compile)`, // whichever comes first
		"starting to compile": `"started".*"kubernetes: compile`,
	} {
		t.Run(name, func(t *testing.T) { interruptAt(t, regexp.MustCompile(marker)) })
	}
}

// linkedCaches are the caches of the user's that an emptyEngine has.
var linkedCaches = []string{"downloads", "go", "inputs"}

// emptyEngine returns a folder for the caches of an engine that has built
// nothing, on the downloads that this machine has.
func emptyEngine(t *testing.T) string {
	t.Helper()
	cache := t.TempDir()
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(cache, "nodesmith"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, shared := range linkedCaches {
		if err := os.Symlink(filepath.Join(user, "nodesmith", shared), filepath.Join(cache, "nodesmith", shared)); err != nil {
			t.Fatal(err)
		}
	}
	return cache
}

// takeLock puts the built image's lock into a folder.
func takeLock(t *testing.T, dir string) {
	t.Helper()
	testenv.NeedRoot(t) // nothing is built without
	const name = "debian-12.lock.yaml"
	testenv.CopyFile(t, filepath.Join(built, name), filepath.Join(dir, name), 0o644)
}

// interruptAt starts a build, sends SIGINT when its progress shows marker, and
// checks what is left.
func interruptAt(t *testing.T, marker *regexp.Regexp) {
	// Neither the engine nor the store has the image, nor a part of it: what an
	// engine has, it neither starts nor says.
	cache, dir := emptyEngine(t), t.TempDir()
	takeLock(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "build", "-f", example, "-o", dir, "--locked", "--progress", "json")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, "XDG_DATA_HOME="+cache)
	// A build that does not get there is ended, not killed: its mounts are its own.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	watch := &trigger{marker: marker, fire: func() { _ = cmd.Process.Signal(os.Interrupt) }}
	cmd.Stderr = watch
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != fault.Interrupted.ExitCode() || !watch.fired {
		t.Fatalf("%v; marker seen: %v\n%s", err, watch.fired, watch.seen.String())
	}
	t.Logf("ended %s after Ctrl-C", time.Since(watch.at).Round(time.Millisecond))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the output folder holds %v (%v), want the lock alone", entries, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(cache)) {
		t.Errorf("something below %s is still mounted (%v)", cache, err)
	}
	if out, err := exec.Command("pgrep", "-af", cache).Output(); err == nil {
		t.Errorf("still running: %s", out)
	}
}

// trigger calls fire once, when marker has been written to it.
type trigger struct {
	marker *regexp.Regexp
	fire   func()
	seen   bytes.Buffer
	fired  bool
	at     time.Time
}

func (w *trigger) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if !w.fired && w.marker.Match(w.seen.Bytes()) {
		w.fired, w.at = true, time.Now()
		w.fire()
	}
	return len(p), nil
}

// It has the machine to itself: a control plane that gets half of two emulated
// CPUs may miss etcd's and the probes' deadlines forever.
func TestTheImageBootsOnBIOSAndUEFIAndFormsAControlPlane(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	r := nodesmith(t, "verify", qcow2(), "--level", "cluster", "--json")
	var verified report.Verification
	if err := json.Unmarshal([]byte(r.out), &verified); err != nil {
		t.Fatalf("%v\n%s\n%s", err, r.out, r.err)
	}
	if len(verified.Boots) != 2 {
		t.Errorf("%d boots, want 2", len(verified.Boots))
	}
	for _, boot := range verified.Boots {
		t.Logf("%s on %s: %s in %.0f s", boot.Firmware, boot.Accelerator, boot.Verdict, boot.Seconds)
	}
	for _, check := range verified.Checks {
		if check.Status != contract.Passed {
			t.Errorf("%s: %s: %s", check.Firmware, check.ID, check.Evidence)
		}
	}
	if r.exit != 0 {
		t.Errorf("exit code %d\n%s", r.exit, r.err)
	}
}
