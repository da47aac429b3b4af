package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// killsVariable says how many kills there shall be, seedVariable repeats a run.
const (
	killsVariable = "NODESMITH_TEST_KILLS"
	seedVariable  = "NODESMITH_TEST_SEED"
)

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A build is killed at a random moment, again and again on what the one before
// it left, until one comes through; then another starts from nothing. After each
// kill everything that has its final name is whole. Rows of builds run side by side,
// as they would on a machine that builds for several people.
func TestABuildThatIsKilledAtAnyMomentLeavesNothingHalfWritten(t *testing.T) {
	mirror := needArchive(t).serve(t, nil)
	want := cleanBuild(t)
	seed := number(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("%s=%d repeats these kills", seedVariable, seed)
	total := number(t, killsVariable, kills)
	for row := range uint64(rows) {
		t.Run(fmt.Sprintf("row %d", row), func(t *testing.T) {
			t.Parallel()
			killRow(t, mirror, want, rand.New(rand.NewPCG(seed, row)), (total+row)/rows)
		})
	}
}

// killRow kills so many builds, one after the other.
func killRow(t *testing.T, mirror string, want digests, random *rand.Rand, total uint64) {
	temporary, err := os.MkdirTemp("", "killed-") // not the test's: sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temporary) })
	theirs := "TMPDIR=" + temporary
	began := time.Now()
	newBuild(t, mirror).must(t, theirs)
	whole := time.Since(began)
	t.Logf("beside the other rows a build takes %s", whole)
	killed, came := uint64(0), 0
	for killed < total {
		b := newBuild(t, mirror)
		for killed < total {
			// Sooner more often than later: what was done by then is kept, so that the
			// next build comes to later steps earlier, and few come through.
			delay := time.Duration(random.Float64() * random.Float64() * float64(whole))
			if !killAfter(t, b, delay, theirs) {
				came++
				break
			}
			killed++
			nothingHalfWritten(t, b, want)
			if killed%100 == 0 {
				t.Logf("%d builds were killed, %d came through", killed, came)
			}
		}
		b.must(t, theirs)
		equalsClean(t, b)
		if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
			t.Fatalf("temporary files are left: %v (%v)", left, err)
		}
		b.remove(t)
	}
	t.Logf("in all %d builds were killed, %d came through", killed, came)
}

// killAfter starts a build and kills it after a delay, as the kernel would kill
// it for memory or a user with kill -9; false if the build ended before.
func killAfter(t *testing.T, b build, delay time.Duration, environment ...string) bool {
	t.Helper()
	cmd := b.command(t, environment...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second // a container of a killed build may hold them open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() && cmd.ProcessState.ExitCode() == -1 {
		return true
	}
	if err != nil {
		t.Fatalf("a build on what a killed one left: %v\n%s", err, output.String())
	}
	return false
}

// nothingHalfWritten reads everything that has the name of something whole.
func nothingHalfWritten(t *testing.T, b build, want digests) {
	t.Helper()
	for name, got := range b.digests(t) {
		if got != want[name] {
			t.Fatalf("tiny.%s is there and is not what a clean build makes", name)
		}
	}
	for _, dir := range []string{"downloads/sha256", "inputs/blobs/sha256"} {
		err := filepath.WalkDir(filepath.Join(b.Cache, dir), func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() || len(d.Name()) != hex.EncodedLen(sha256.Size) {
				return err
			}
			data, err := os.ReadFile(path)
			if sum := sha256.Sum256(data); err == nil && hex.EncodeToString(sum[:]) != d.Name() {
				t.Fatalf("%s does not have the digest that it is called by", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A build that uses another's engine goes on by itself when that one is killed.
func TestABuildOutlivesTheOneWhoseEngineItUses(t *testing.T) {
	a := needArchive(t)
	want := cleanBuild(t)
	b := newBuild(t, a.serve(t, nil))
	first := b.command(t)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	second := make(chan result)
	go func() { second <- b.do(t) }()
	time.AfterFunc(time.Duration(rand.Float64()*float64(10*time.Second)), func() { _ = first.Process.Kill() })
	_ = first.Wait()
	nothingHalfWritten(t, b, want)
	if r := <-second; r.exit != 0 {
		t.Fatalf("exit code %d\n%s", r.exit, r.output)
	}
	equalsClean(t, b)
}

// remove removes what a build made, with the containers and mounts that a killed
// one left.
func (b build) remove(t testing.TB) {
	t.Helper()
	executor := filepath.Join(b.Cache, "engine", "runc-overlayfs", "executor")
	entries, _ := os.ReadDir(executor)
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(executor, e.Name(), "config.json")); err == nil {
			_ = exec.Command("runc", "delete", "--force", e.Name()).Run()
		}
	}
	dir := filepath.Dir(b.Cache)
	unmountBelow(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
