//go:build all

package test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/engine/enginetest"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/housekeeping"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// compiled exports the compiled programs of the example, and nothing that is made
// of them, from this machine's engine to a folder: other engines then have
// everything to do but to compile.
func compiled(t *testing.T, dir string) {
	t.Helper()
	settings, err := host.Read()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Read(filepath.Join(built, "debian-12.lock.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := bundle.Open(filepath.Join(settings.CacheDir, "inputs"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(t.Context(), engine.Options{
		Root: housekeeping.EngineDir(settings.CacheDir), Inputs: inputs.Blobs,
		Cache: engine.Cache{To: []string{"type=local,compression=zstd,dest=" + dir}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	release, _ := known.Tools(l.Architecture)
	modules := func(ctx context.Context) (gomodules.Config, error) {
		golang, err := settings.Go(ctx)
		return gomodules.Config{
			Proxy: goproxy.Config{
				Proxy: golang.Proxy, SumDB: golang.SumDB, NoSumDB: golang.NoSumDB, Dir: filepath.Join(settings.CacheDir, "go"),
			},
			Env: settings.Network,
		}, err
	}
	builder := tree.New(e, inputs, fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors), modules,
		filepath.Join(settings.CacheDir, "images"), progress.NewRecorder(progress.Options{}))
	tools, err := builder.Tools(t.Context(), release, l)
	if err != nil {
		t.Fatal(err)
	}
	kubernetes, err := builder.Kubernetes(t.Context(), release, tools, nil, l)
	if err != nil {
		t.Fatal(err)
	}
	// What the programs are made of is read of every one of them, etcd's too.
	programs := builder.Records(kubernetes)[0]
	if err := e.ExportCache(t.Context(), "export what was compiled", kubernetes.Programs, programs); err != nil {
		t.Fatal(err)
	}
}

// builtElsewhere fails unless a build in a folder ran everything but compilers, by
// what it told, and made the image that root's own engine makes.
func builtElsewhere(t *testing.T, dir, told string) {
	t.Helper()
	ran := stepsRun(t, told)
	for _, step := range []string{"os: unpack", "os: configure", "kubernetes: ask kubeadm for its images", "kubernetes: container images", "node: configure", "qemu: assemble disk"} {
		if !slices.Contains(ran, step) {
			t.Errorf("%s did not run", step)
		}
	}
	if slices.ContainsFunc(ran, func(step string) bool { return strings.HasPrefix(step, "kubernetes: compile") }) {
		t.Errorf("it compiled: %q", ran)
	}
	var sums [2]digest.Digest
	for i, path := range []string{qcow2(), filepath.Join(dir, "debian-12-qemu.qcow2")} {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[i], err = digest.FromReader(file)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if sums[0] != sums[1] {
		differ, _ := exec.CommandContext(t.Context(), program, "diff", qcow2(), filepath.Join(dir, "debian-12-qemu.qcow2")).CombinedOutput()
		t.Errorf("%s, and root's own engine made %s\n%s", sums[1], sums[0], differ)
	}
	t.Logf("%d steps ran; the image is %s", len(ran), sums[1])
}

// The whole example is built again on a separate BuildKit, and by an ordinary
// user: every step but the compilers, whose results come from a folder.
func TestTheWholeImageIsTheSameOnEveryEngine(t *testing.T) {
	testenv.NeedRoot(t)
	user := testenv.NewUser(t)
	shared := filepath.Join(filepath.Dir(user.Dir), "shared")
	compiled(t, shared)
	arguments := func(dir string) []string {
		for _, from := range []string{example, filepath.Join(built, "debian-12.lock.yaml")} {
			testenv.CopyFile(t, from, filepath.Join(dir, filepath.Base(from)), 0o644)
		}
		return []string{
			"build", "-f", filepath.Join(dir, filepath.Base(example)), "-o", dir, "--locked", "--progress", "json",
			"--cache-from", "type=local,src=" + shared,
		}
	}
	run := func(t *testing.T, cmd *exec.Cmd) string {
		var told bytes.Buffer
		cmd.Stderr = &told
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, told.String())
		}
		return told.String()
	}
	t.Run("a separate buildkitd", func(t *testing.T) {
		dir, cache := t.TempDir(), emptyEngine(t)
		daemon := enginetest.Start(t, filepath.Join(t.TempDir(), "d"))
		cmd := exec.CommandContext(t.Context(), program, append(arguments(dir), "--engine", daemon.Address())...)
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, "XDG_DATA_HOME="+cache)
		builtElsewhere(t, dir, run(t, cmd))
	})
	t.Run("an ordinary user", func(t *testing.T) {
		out := filepath.Join(user.Dir, "out")
		user.Mkdir(t, out)
		given(t, user, shared)
		cmd := user.Command(t.Context(), user.Program(t, program), arguments(out)...)
		builtElsewhere(t, out, run(t, cmd))
	})
}

// given lets a user have the inputs that this machine has, and a folder, without a
// copy of them where that is possible.
func given(t *testing.T, user *testenv.User, folder string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{".cache", ".cache/nodesmith"} {
		user.Mkdir(t, filepath.Join(user.Dir, dir))
	}
	inputs := filepath.Join(user.Dir, ".cache", "nodesmith", "inputs")
	if exec.CommandContext(t.Context(), "cp", "-al", filepath.Join(cache, "nodesmith", "inputs"), inputs).Run() != nil {
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(cache, "nodesmith", "inputs"), inputs).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, top := range []string{inputs, folder} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				user.Mkdir(t, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
