package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// holderVariable makes the test binary a process that runs a sleeping step in
// the engine whose state directory it names.
const holderVariable = "NODESMITH_TEST_ENGINE_HOLDER"

func TestMain(m *testing.M) {
	if root := os.Getenv(holderVariable); root != "" {
		hold(root)
		return
	}
	os.Exit(m.Run())
}

// hold runs until it is killed.
func hold(root string) {
	ctx := context.Background()
	inputs, err := bundle.Open(filepath.Join(root, "inputs"))
	if err == nil {
		var e *Engine
		if e, err = Open(ctx, Options{Root: filepath.Join(root, "engine"), Inputs: inputs.Blobs, Observe: announce}); err == nil {
			state := guestStep(os.Getenv("NODESMITH_TEST_GUEST"), inputs, "sleep")
			err = e.Solve(ctx, "hold", state)
		}
	}
	os.Stderr.WriteString(err.Error())
	os.Exit(1)
}

// announce writes each line of a step's output to stdout.
func announce(event *client.SolveStatus) {
	for _, log := range event.Logs {
		os.Stdout.Write(log.Data)
	}
}

// fixture is an engine with its inputs and a guest program, in a directory of
// its own.
type fixture struct {
	dir, guest string
	inputs     *bundle.Store
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "runc", "go")
	f := &fixture{dir: t.TempDir()}
	f.guest = filepath.Join(f.dir, "guest")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", f.guest, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	if f.inputs, err = bundle.Open(filepath.Join(f.dir, "inputs")); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) root() string { return filepath.Join(f.dir, "engine") }

// open opens the engine and closes it at the test's end.
func (f *fixture) open(t *testing.T, observe func(*client.SolveStatus)) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Options{Root: f.root(), Inputs: f.inputs.Blobs, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error("closing:", err)
		}
	})
	return e
}

// started is the engine of f.open, running.
func (f *fixture) started(t *testing.T) *Engine {
	t.Helper()
	e := f.open(t, nil)
	if _, err := e.connection(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// interruptible is an engine that runs, to be closed by the test, and what interrupts it.
func (f *fixture) interruptible(t *testing.T) (*Engine, context.CancelFunc) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	t.Cleanup(interrupt)
	e, err := Open(ctx, Options{Root: f.root(), Inputs: f.inputs.Blobs})
	if err == nil {
		_, err = e.connection(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e, interrupt
}

// solved runs a step on an engine of its own, which has ended when it returns.
func (f *fixture) solved(t *testing.T, observe func(*client.SolveStatus)) {
	t.Helper()
	e, err := Open(t.Context(), Options{Root: f.root(), Inputs: f.inputs.Blobs, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Solve(t.Context(), "title", f.step("sparse")), e.Close()); err != nil {
		t.Fatal(err)
	}
}

func guestStep(path string, inputs *bundle.Store, verb string) llb.State {
	program, err := inputs.Content(context.Background(), "guest", bundle.File{Name: "guest", Mode: 0o755, Path: path})
	if err != nil {
		panic(err)
	}
	return llb.Scratch().Run(llb.Args([]string{"/program/guest", verb}), llb.Network(pb.NetMode_NONE),
		llb.AddMount("/program", program, llb.Readonly), llb.WithCustomName("step "+verb)).AddMount("/out", llb.Scratch())
}

func (f *fixture) step(verb string) llb.State { return guestStep(f.guest, f.inputs, verb) }

// ran collects the names of steps that ran, as opposed to those that the cache answered.
type ran struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *ran) watch(event *client.SolveStatus) {
	r.mu.Lock()
	for _, v := range event.Vertexes {
		if v.Started != nil && !v.Cached && strings.HasPrefix(v.Name, "step ") {
			r.names[v.Name] = true
		}
	}
	r.mu.Unlock()
}

// mounts lists the mount points below dir.
func mounts(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir) {
			found = append(found, fields[4])
		}
	}
	return found
}

func TestAnEngineThatNothingIsAskedOfNeverStarts(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(f.root()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its state directory holds %v (%v)", left, err)
	}
}

// The context of the solve that starts the engine is not that of the engine.
func TestAnEngineOutlivesTheSolveThatStartsIt(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	first, end := context.WithCancel(t.Context())
	if err := e.Solve(first, "first", f.step("sparse")); err != nil {
		t.Fatal(err)
	}
	end()
	if err := e.Export(t.Context(), "second", f.step("sparse"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.interrupted:
		t.Error("closing it would wait for nobody")
	default:
	}
}

func TestReadFileReturnsAFileOfTheResult(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	state, err := f.inputs.Content(t.Context(), "x", bundle.File{Name: "dir/hello", Mode: 0o644, Data: []byte("world")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.ReadFile(t.Context(), "read", state, "dir/hello")
	if err != nil || string(got) != "world" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := e.ReadFile(t.Context(), "read", state, "dir/none"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestResultsAreReadWhereTheyLieAndTheSecondTimeNothingRuns(t *testing.T) {
	f := newFixture(t)
	hello, err := f.inputs.Content(t.Context(), "x", bundle.File{Name: "hello", Mode: 0o644, Data: []byte("world")})
	if err != nil {
		t.Fatal(err)
	}
	r := &ran{names: map[string]bool{}}
	e := f.open(t, r.watch)
	// The second one is of several layers: an overlay.
	states := []llb.State{f.step("sparse"), hello.File(llb.Mkfile("/too", 0o644, []byte("more")))}
	for round, want := range []bool{true, false} {
		clear(r.names)
		used := false
		err := e.Mounted(t.Context(), "read", states, func(dirs []string) error {
			used = true
			var stat unix.Stat_t
			if err := unix.Stat(filepath.Join(dirs[0], "sparse"), &stat); err != nil {
				return err
			}
			if stat.Size != 64<<20 || stat.Blocks*512 > 1<<20 {
				t.Errorf("round %d: size %d with %d bytes of data, want 64 MiB with nearly none", round, stat.Size, stat.Blocks*512)
			}
			for name, want := range map[string]string{"hello": "world", "too": "more"} {
				if text, err := os.ReadFile(filepath.Join(dirs[1], name)); err != nil || string(text) != want {
					t.Errorf("%s holds %q, %v", name, text, err)
				}
			}
			return nil
		})
		if err != nil || !used {
			t.Fatalf("used: %v, %v", used, err)
		}
		if r.names["step sparse"] != want {
			t.Errorf("round %d: step ran: %v, want %v", round, r.names["step sparse"], want)
		}
	}
}

// overlays lists the mount points of overlays of the fixture's folders.
func (f *fixture) overlays(t *testing.T) []string {
	t.Helper()
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "overlay" || !strings.Contains(m.VFSOptions, f.dir), false // others build, too
	})
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, m := range found {
		points = append(points, m.Mountpoint)
	}
	return points
}

func TestAUseThatFailsIsNoFailureOfTheEngine(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	failure := fault.New(fault.NoSpace, "free some", "no room")
	states := []llb.State{f.step("sparse"), llb.Scratch().File(llb.Mkdir("/a", 0o755)).File(llb.Mkdir("/b", 0o755))}
	before := f.overlays(t)
	var within []string
	err := e.Mounted(t.Context(), "read", states, func([]string) error {
		within = f.overlays(t)
		return failure
	})
	if !errors.Is(err, failure) || err.Error() != failure.Error() {
		t.Errorf("%v, want %v", err, failure)
	}
	if len(within) == len(before) {
		t.Error("nothing was mounted")
	}
	if after := f.overlays(t); !slices.Equal(before, after) {
		t.Errorf("mounted: %q, before: %q", after, before)
	}
	err = e.Mounted(t.Context(), "read", []llb.State{f.step("fail")}, func([]string) error {
		t.Error("what failed is used")
		return nil
	})
	if fault.KindOf(err) != fault.Engine || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("%v (%v)", err, fault.KindOf(err))
	}
}

func TestAnInterruptedUseIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := false
	err := e.Mounted(ctx, "read", []llb.State{f.step("sparse")}, func(dirs []string) error {
		interrupt()
		time.Sleep(500 * time.Millisecond)
		_, err := os.Stat(filepath.Join(dirs[0], "sparse"))
		ended = err == nil
		return context.Cause(ctx)
	})
	if !ended {
		t.Error("the result was gone, or the use went on alone")
	}
	if fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v (%v)", err, fault.KindOf(err))
	}
}

func TestAFailedStepIsNamedWithItsLastLines(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	err := e.Solve(t.Context(), "title", f.step("fail"))
	if fault.KindOf(err) != fault.Engine {
		t.Fatalf("kind %v of %v", fault.KindOf(err), err)
	}
	for _, want := range []string{"title", `"step fail"`, "exit code: 3", "line 39", "the reason"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 2\n") {
		t.Errorf("the whole output is in: %v", err)
	}
}

func TestAStepThatRanOutOfMemorySaysSo(t *testing.T) {
	f := newFixture(t)
	e := f.open(t, nil)
	for name, verb := range map[string]string{"the step itself": "killed", "a program of its own": "compiler"} {
		t.Run(name, func(t *testing.T) {
			err := e.Solve(t.Context(), "title", f.step(verb))
			if advice := fault.RemedyOf(err); fault.KindOf(err) != fault.Engine || !strings.Contains(advice, "memory") {
				t.Errorf("kind %v, advice %q of %v", fault.KindOf(err), advice, err)
			}
		})
	}
}

func TestCancelEndsTheStepAndLeavesNothing(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := func(event *client.SolveStatus) {
		if len(event.Logs) > 0 {
			cancel()
		}
	}
	e, err := Open(ctx, Options{Root: f.root(), Inputs: f.inputs.Blobs, Observe: started})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Solve(ctx, "title", f.step("sleep"))
	if fault.KindOf(err) != fault.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("%v (%v)", err, fault.KindOf(err))
	}
	if err := e.Close(); err != nil {
		t.Error("closing:", err)
	}
	if left := mounts(t, f.root()); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	if out, err := exec.Command("pgrep", "-f", "/program/guest sleep").Output(); err == nil {
		t.Errorf("still running: %s", out)
	}
}

func TestASecondEngineJoinsTheFirst(t *testing.T) {
	f := newFixture(t)
	r := &ran{names: map[string]bool{}}
	first := f.open(t, nil)
	if err := first.Solve(t.Context(), "first", f.step("sparse")); err != nil {
		t.Fatal(err)
	}
	second := f.open(t, r.watch)
	if err := second.Export(t.Context(), "second", f.step("sparse"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	clear(r.names)
	err := second.Mounted(t.Context(), "read", []llb.State{f.step("sparse")}, func(dirs []string) error {
		_, err := os.Stat(filepath.Join(dirs[0], "sparse"))
		return err
	})
	if err != nil || len(r.names) > 0 {
		t.Errorf("to read it, the second process ran %v: %v", r.names, err)
	}
}

func TestAJoinedEngineGoesOnWhenTheFirstOneIsInterrupted(t *testing.T) {
	f := newFixture(t)
	first, interrupt := f.interruptible(t)
	var once sync.Once
	closed := make(chan error, 1)
	second := f.open(t, func(event *client.SolveStatus) {
		if len(event.Logs) > 0 { // the step runs: its engine goes away
			once.Do(func() {
				interrupt()
				go func() { closed <- first.Close() }()
			})
		}
	})
	dest := t.TempDir()
	if err := second.Export(t.Context(), "second", f.step("slow"), dest); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Error("closing the first:", err)
	}
	if data, err := os.ReadFile(filepath.Join(dest, "slow")); err != nil || string(data) != "done" {
		t.Errorf("the step's result: %q, %v", data, err)
	}
}

func TestWhatAJoinedEngineReadsStaysWhenTheFirstOneIsInterrupted(t *testing.T) {
	for name, failsOnce := range map[string]bool{"and it is read to its end": false, "and it is read again if that fails": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			first, interrupt := f.interruptible(t)
			calls := 0
			err := f.open(t, nil).Mounted(t.Context(), "read", []llb.State{f.step("sparse")}, func(dirs []string) error {
				if calls++; calls == 1 {
					interrupt()
					if err := first.Close(); err != nil {
						t.Error("closing the first:", err)
					}
					if failsOnce {
						return errors.New("it is gone")
					}
				}
				_, err := os.Stat(filepath.Join(dirs[0], "sparse"))
				return err
			})
			if want := map[bool]int{false: 1, true: 2}[failsOnce]; err != nil || calls != want {
				t.Errorf("%d calls, want %d: %v", calls, want, err)
			}
		})
	}
}

func TestWhatAStoppedMachineLeftIsMadeAnew(t *testing.T) {
	for name, test := range map[string]struct {
		since string // the start of the machine since when the engine ran; "" for this one
		again bool   // the step runs again
	}{
		"the machine stopped": {"another start of the machine\n", true},
		"it was only killed":  {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.solved(t, nil)
			note := filepath.Join(f.root(), running)
			if _, err := os.Lstat(note); err == nil {
				t.Error("an engine that ended is said to run")
			}
			since := []byte(test.since)
			if len(since) == 0 {
				var err error
				if since, err = os.ReadFile(bootID); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(note, since, 0o600); err != nil {
				t.Fatal(err)
			}
			r := &ran{names: map[string]bool{}}
			f.solved(t, r.watch)
			if got := len(r.names) > 0; got != test.again {
				t.Errorf("it ran %v again", r.names)
			}
		})
	}
}

func TestAStepDoesNotWaitForCompilersToEnd(t *testing.T) {
	f := newFixture(t)
	program, err := f.inputs.Content(t.Context(), "guest", bundle.File{Name: "guest", Mode: 0o755, Path: f.guest})
	if err != nil {
		t.Fatal(err)
	}
	const more = 2 // that wait for a place
	compilers := make([]llb.State, runtime.GOMAXPROCS(0)+more)
	for i := range compilers {
		compilers[i] = llb.Scratch().Run(llb.Args([]string{"/program/guest", "sleep", strconv.Itoa(i)}), llb.Network(pb.NetMode_NONE),
			llb.AddMount("/program", program, llb.Readonly), llb.AddMount("/cache", llb.Scratch(), llb.AsPersistentCacheDir("go", llb.CacheMountShared)),
		).AddMount("/out", llb.Scratch())
	}
	var sleeping atomic.Int64
	e := f.open(t, func(event *client.SolveStatus) { sleeping.Add(int64(len(event.Logs))) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Solve(ctx, "compilers", llb.Merge(compilers)) }()
	testenv.Eventually(t, time.Minute, func() error {
		if n, want := sleeping.Load(), int64(len(compilers)-more); n != want {
			return fmt.Errorf("%d compilers run, want %d", n, want)
		}
		return nil
	})
	within, end := context.WithTimeout(ctx, time.Minute)
	defer end()
	if err := e.Solve(within, "a step", f.step("sparse")); err != nil {
		t.Error(err)
	}
	if n := sleeping.Load(); n != int64(len(compilers)-more) {
		t.Errorf("%d compilers run, want %d", n, len(compilers)-more)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the compilers ended: %v", err)
	}
}

func TestTheEnginesSocketIsItsOwnersAlone(t *testing.T) {
	f := newFixture(t)
	e, err := Open(t.Context(), Options{Root: f.root(), Inputs: f.inputs.Blobs})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Solve(t.Context(), "title", f.step("sparse")); err != nil {
		t.Error(err)
	}
	socket := filepath.Join(f.root(), "engine.sock")
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(f.root(), "new")); err == nil {
		t.Error("the folder in which it was made is still there")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket outlived its engine")
	}
}

func TestWhatAKilledEngineLeftIsSweptAtTheNextStart(t *testing.T) {
	f := newFixture(t)
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), holderVariable+"="+f.dir, "NODESMITH_TEST_GUEST="+f.guest)
	var stderr bytes.Buffer
	holder.Stderr = &stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 64)); n == 0 { // "sleeping": the step runs
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	if len(mounts(t, f.root())) == 0 {
		t.Fatal("the killed process left no mount: this test tests nothing")
	}
	workers, err := filepath.Glob(filepath.Join(f.root(), workerPattern))
	if err != nil || len(workers) != 1 {
		t.Fatalf("workers %q, %v", workers, err)
	}
	half := filepath.Join(workers[0], "content", "ingest", "half")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	// As if it had been killed while it made a snapshot: its folder has a name already,
	// which is a number, and is in no database.
	snapshots := filepath.Join(workers[0], "snapshots", "snapshots")
	recorded, err := os.ReadDir(snapshots)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, folder := range recorded {
		n, err := strconv.Atoi(folder.Name())
		if err != nil {
			t.Fatal(err)
		}
		last = max(last, n)
	}
	unrecorded := filepath.Join(snapshots, strconv.Itoa(last+1))
	if err := os.MkdirAll(filepath.Join(unrecorded, "fs"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := f.started(t)
	if left := mounts(t, f.root()); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("a blob that was half copied is still there")
	}
	if _, err := os.Stat(unrecorded); err == nil {
		t.Error("a snapshot that is not recorded is still there")
	}
	if err := e.Solve(t.Context(), "after it", f.step("sparse")); err != nil {
		t.Error(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if exec.Command("pgrep", "-f", "^/program/guest sleep").Run() != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the killed process's step still runs")
}
