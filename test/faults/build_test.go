package faults

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/rootless"
	"nodesmith.dev/nodesmith/internal/scratch"
	"nodesmith.dev/nodesmith/internal/source/packages"
)

// workDir is a folder that lasts as long as the tests.
var workDir string

// theContext lives as long as the test binary.
var theContext = context.Background()

// buildVariable makes the test binary a program that carries out one build: it
// names the file that says which.
const buildVariable = "NODESMITH_TEST_BUILD"

func TestMain(m *testing.M) {
	if config := os.Getenv(buildVariable); config != "" {
		os.Exit(buildMain(config))
	}
	os.Exit(run(m))
}

// run keeps the clean build's disk as long as the tests run.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nodesmith-clean-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	workDir, cleanDisk = dir, filepath.Join(dir, "tiny.raw")
	return m.Run()
}

// build says what a build reads and where it writes.
type build struct {
	Release distro.Release
	Lock    *lock.Lock
	// Cache is as $XDG_CACHE_HOME/nodesmith, Out receives the disk and the images.
	Cache, Out string
	// Mirrors are those of the test's archive, Others maps further archives to
	// theirs.
	Mirrors []string
	Others  map[string][]string
	Now     time.Time
	// Firmware is what the disk boots from; none for a root file system alone.
	Firmware []string
	Size     size.Bytes
	// Engine is the address of the engine that runs the steps; none for the
	// build's own. CacheFrom and CacheTo are as the flags of nodesmith.
	Engine             string
	CacheFrom, CacheTo []string
	// Whole asks for all that an image is made of but Kubernetes.
	Whole bool
	// Plan asks for a plan before the build.
	Plan bool
	// wrapper is a program that runs the build, with its arguments; start makes
	// the command where it is not root's on this machine.
	wrapper []string
	start   func(t testing.TB, config []byte, environment []string) *exec.Cmd
}

// outputs are the files that a build makes, by format.
var outputs = []string{"raw", "qcow2"}

// buildMain carries out a build and ends with the exit code of its fault. That of
// an ordinary user goes on in a user namespace, as nodesmith's does.
func buildMain(config string) int {
	if code, is := rootless.Child(os.Stderr); is {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	end, err := scratch.Own() // as package cli has it
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return fault.Internal.ExitCode()
	}
	defer func() { _ = end() }() // what it can't remove goes with the next one
	var b build
	data, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err == nil && rootless.Needed() {
		err = rootless.Enter(filepath.Join(b.Cache, "run"))
		if code, is := rootless.ExitCode(err); is {
			return code
		}
	} else if err == nil {
		err = b.run(ctx)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	if ctx.Err() != nil { // as package cli has it
		return fault.Interrupted.ExitCode()
	}
	return fault.KindOf(err).ExitCode()
}

// run is what the pipeline does, without Kubernetes and a node's configuration:
// take the signed archive, build the tree and the disk on the engine, write the
// images.
func (b build) run(ctx context.Context) (err error) {
	mirrors := map[string][]string{archiveURL: b.Mirrors}
	maps.Copy(mirrors, b.Others)
	cache := fetch.New(filepath.Join(b.Cache, "downloads"), mirrors)
	if _, err := packages.Take(ctx, cache, b.Release, nil, b.Now); err != nil {
		return err
	}
	inputs, err := bundle.Open(filepath.Join(b.Cache, "inputs"))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{
		Root: filepath.Join(b.Cache, "engine"), Inputs: inputs.Blobs, Observe: lines,
		Remote: engine.Remote{Address: b.Engine}, Cache: engine.Cache{From: b.CacheFrom, To: b.CacheTo},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	builder := tree.New(e, inputs, cache, nil, "", progress.NewRecorder(progress.Options{}))
	assembled, err := b.disk(ctx, builder, inputs)
	if err != nil {
		return err
	}
	names := tree.Reading{Title: "tiny: build", Pack: "tiny: pack disk"}
	if err := b.plan(ctx, e, builder, names, assembled); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(b.Out, ".nodesmith-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	err = builder.Read(ctx, names, assembled, temporary, func(disk format.Source) error { return b.convert(ctx, disk) })
	if err != nil {
		return err
	}
	return e.ExportCache(ctx, "export the cache", assembled.Map)
}

// disk composes the graph.
func (b build) disk(ctx context.Context, builder *tree.Builder, inputs *bundle.Store) (assembled tree.Disk, err error) {
	tools, err := builder.Tools(ctx, b.Release, b.Lock)
	if err != nil {
		return assembled, err
	}
	system, err := builder.OS(ctx, b.Release, b.Release, b.Lock)
	if err != nil {
		return assembled, err
	}
	var k tree.Kubernetes
	if b.Whole {
		if system, k, err = b.node(ctx, builder, inputs, tools, system); err != nil {
			return assembled, err
		}
	}
	return builder.Disk(ctx, "tiny: assemble disk", b.Release, tools, system, k, disk.Config{
		Size: b.Size, Identifiers: disk.IdentifiersFrom("tiny"), Partitions: disk.Layout(b.Firmware, nil, disk.RootFileSystem(0)),
	}, b.Lock)
}

// plan prints what will become of each step, if the build asks for it.
func (b build) plan(ctx context.Context, e *engine.Engine, builder *tree.Builder, names tree.Reading, assembled tree.Disk) error {
	if !b.Plan {
		return nil
	}
	states, err := builder.ReadStates(ctx, names, assembled)
	if err != nil {
		return err
	}
	steps, err := e.Plan(ctx, "plan", states, nil)
	for _, s := range steps {
		fmt.Printf("PLAN %s %s\n", s.State, s.Name)
	}
	return err
}

func (b build) convert(ctx context.Context, disk format.Source) error {
	blocks := blockcache.Open(host.BlocksDir(b.Cache), blockcache.DefaultLimit)
	defer blocks.Close()
	var targets []format.Target
	for _, name := range outputs {
		f, err := known.Named(name)
		if err != nil {
			return err
		}
		targets = append(targets, format.Target{Path: b.output(name), New: f.New})
	}
	_, err := format.Converter{Blocks: blocks}.Convert(ctx, disk, targets)
	return err
}

func (b build) output(format string) string { return filepath.Join(b.Out, "tiny."+format) }

// lines writes what the engine does to stdout. A result that another's cache has is
// CACHED first, and DONE when it is here.
func lines(event *client.SolveStatus) {
	for _, v := range event.Vertexes {
		switch {
		case v.Cached:
			fmt.Printf("CACHED %s\n", v.Name)
		case v.Completed != nil:
			fmt.Printf("DONE %s\n", v.Name)
		case v.Started != nil:
			fmt.Printf("START %s\n", v.Name)
		}
	}
	for _, log := range event.Logs {
		_, _ = os.Stdout.Write(log.Data)
	}
}

// newBuild returns a build of the archive on an empty cache, from a mirror.
func newBuild(t testing.TB, mirrors ...string) build {
	t.Helper()
	a := needArchive(t)
	l, err := a.lock([]byte(a.index))
	if err != nil {
		t.Fatal(err)
	}
	b := build{Release: a.release, Lock: l, Mirrors: mirrors, Now: a.date.AddDate(0, 1, 0), Size: 128 * size.MiB}
	return b.elsewhere(t)
}

// elsewhere is the build with a cache and a folder of its own, both empty.
func (b build) elsewhere(t testing.TB) build {
	t.Helper()
	dir := t.TempDir()
	b.Cache, b.Out = filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	for _, d := range []string{b.Cache, b.Out} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { b.remove(t) })
	return b
}

// command returns the program that carries the build out.
func (b build) command(t testing.TB, environment ...string) *exec.Cmd {
	t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if b.start != nil {
		return b.start(t, data, environment)
	}
	config := filepath.Join(t.TempDir(), "build.json")
	writeFile(t, config, data)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	if b.wrapper != nil {
		cmd = exec.CommandContext(t.Context(), b.wrapper[0], append(slices.Clone(b.wrapper[1:]), os.Args[0])...)
	}
	cmd.Env = append(os.Environ(), append([]string{buildVariable + "=" + config}, environment...)...)
	return cmd
}

// result is how a build ended.
type result struct {
	exit   int
	output string
}

// do carries the build out, and returns its exit code and what it printed.
func (b build) do(t testing.TB, environment ...string) result {
	t.Helper()
	out, err := b.command(t, environment...).CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	exit := 0
	if failed != nil {
		exit = failed.ExitCode()
	}
	return result{exit, string(out)}
}

// must carries out a build that has to succeed, and returns the digests of what
// it made.
func (b build) must(t testing.TB, environment ...string) digests {
	t.Helper()
	if r := b.do(t, environment...); r.exit != 0 {
		t.Fatalf("exit code %d\n%s", r.exit, r.output)
	}
	return b.digests(t)
}

// digests are those of a build's outputs that are there.
type digests map[string]string

func (b build) digests(t testing.TB) digests {
	t.Helper()
	out := digests{}
	for _, name := range outputs {
		file, err := os.Open(b.output(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		_, err = io.Copy(sum, file)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		out[name] = hex.EncodeToString(sum.Sum(nil))
	}
	return out
}

// unmountBelow takes away what killed builds left mounted, so that the folder
// can be removed: what the next build on it would have done.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	for _, point := range slices.Backward(mountsBelow(t, dir)) {
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
	}
}

// mountsBelow lists the mount points below a folder.
func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	return points
}
