package faults

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/diff"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/known"
)

// clean is what a build makes that nothing disturbs.
var clean struct {
	once    sync.Once
	digests digests
	took    time.Duration
	bytes   int64 // of its cache
}

// cleanDisk is where the clean build's disk is kept; TestMain removes the folder.
var cleanDisk string

// cleanBuild returns the digests of a clean build, made once.
func cleanBuild(t testing.TB) digests {
	t.Helper()
	a := needArchive(t)
	clean.once.Do(func() {
		b, start := newBuild(t, a.serve(t, nil)), time.Now()
		made := b.must(t)
		clean.took, clean.bytes, clean.digests = time.Since(start), used(t, b.Cache), made
		if err := os.Rename(b.output("raw"), cleanDisk); err != nil {
			t.Fatal(err)
		}
	})
	if len(clean.digests) != len(outputs) {
		t.Fatal("the clean build failed")
	}
	return clean.digests
}

// equalsClean fails unless a build made what a clean one makes, and says what
// differs.
func equalsClean(t testing.TB, b build) {
	t.Helper()
	want, got := cleanBuild(t), b.digests(t)
	if maps.Equal(got, want) {
		return
	}
	if got["raw"] == want["raw"] {
		t.Fatalf("the build made %v, a clean one makes %v", got, want)
	}
	t.Fatalf("the build made another disk than a clean one:\n%s", differences(t, cleanDisk, b.output("raw")))
}

// differences says in what two disks differ.
func differences(t testing.TB, a, b string) string {
	t.Helper()
	var sides [2]diff.Disk
	for i, name := range []string{a, b} {
		file, err := known.OpenFile(name, "raw")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = file.Close() }() // only read
		sides[i] = diff.Disk{Name: name, Source: file}
	}
	report, err := diff.Disks(t.Context(), sides[0], sides[1], true)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	size := func(n int64) string { return fmt.Sprint(n, " bytes") }
	for _, blocks := range []bool{false, true} {
		if err := report.WriteText(&text, diff.TextOptions{All: true, Blocks: blocks, Size: size}); err != nil {
			return err.Error()
		}
	}
	return text.String()
}

// fails fails unless a build ended with that kind of fault, naming its cause,
// and left no output.
func fails(t testing.TB, b build, r result, kind fault.Kind, text string) {
	t.Helper()
	if r.exit != kind.ExitCode() || !strings.Contains(strings.ToLower(r.output), strings.ToLower(text)) {
		t.Errorf("exit code %d, want %d and %q in\n%s", r.exit, kind.ExitCode(), text, r.output)
	}
	if left := b.digests(t); len(left) > 0 {
		t.Errorf("a failed build left %v", left)
	}
}

// altering changes a byte of every package that a mirror serves.
func altering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/pool/") {
			next.ServeHTTP(w, r)
			return
		}
		recorder := &recorder{header: http.Header{}}
		next.ServeHTTP(recorder, r)
		data := recorder.body.Bytes()
		data[len(data)/2] ^= 1
		_, _ = w.Write(data)
	})
}

// recorder keeps a response.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *recorder) WriteHeader(int)             {}

func TestPackagesThatAMirrorAlteredAreRefusedAndTheNextBuildIsClean(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, altering))
	fails(t, b, b.do(t), fault.Unverifiable, "the lock says")
	b.Mirrors = append(b.Mirrors, a.serve(t, nil)) // the next one is taken
	b.must(t)
	equalsClean(t, b)
}

// dying serves some packages, half of one, and from then on breaks every
// connection, also those that are open.
func dying(after int32) func(http.Handler) http.Handler {
	var served atomic.Int32
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/pool/") || served.Add(1) <= after {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Length", "1000000")
			_, _ = io.WriteString(w, "half of it")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	}
}

func TestTheNextMirrorIsTakenWhenOneGoesDownHalfWay(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, dying(4)))
	fails(t, b, b.do(t), fault.Network, "unexpected EOF")
	b = newBuild(t, a.serve(t, dying(4)), a.serve(t, nil))
	b.must(t)
	equalsClean(t, b)
}

func TestAClockThatIsOffIsSaidAndDamagesNothing(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, nil))
	right := b.Now
	b.Now = a.date.AddDate(9, 0, 0)
	fails(t, b, b.do(t), fault.Unverifiable, "expired on")
	b.Now = a.date.AddDate(0, 0, -1)
	fails(t, b, b.do(t), fault.Unverifiable, "")
	b.Now = right
	b.must(t)
	equalsClean(t, b)
}

// tmpfs mounts a file system of so many bytes at dir.
func tmpfs(t *testing.T, dir string, size int64, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}

// used is what a folder takes on its file system, mounts left out.
func used(t testing.TB, dir string) int64 {
	t.Helper()
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && (stat.Nlink == 1 || d.IsDir()) {
			total += stat.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// The cache is on a file system that grows by a part of what a build needs each
// time that the build has failed for lack of it: it fails at every stage.
func TestAFullDiskIsSaidAtEveryStageAndTheNextBuildIsClean(t *testing.T) {
	a := needArchive(t)
	cleanBuild(t)
	need := clean.bytes
	b := newBuild(t, a.serve(t, nil))
	tmpfs(t, b.Cache, need/10, 0)
	for tenths := int64(1); ; tenths += 2 {
		r := b.do(t)
		t.Logf("with %d MiB of %d: exit code %d: %s", tenths*need/10>>20, need>>20, r.exit, lastLine(r.output))
		if r.exit == 0 {
			break
		}
		fails(t, b, r, fault.NoSpace, "no space left on device")
		if tenths > 30 {
			t.Fatal("it never succeeds")
		}
		tmpfs(t, b.Cache, (tenths+2)*need/10, syscall.MS_REMOUNT)
	}
	equalsClean(t, b)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestAFullOutputFolderIsSaidAndTheNextBuildIsClean(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, nil))
	tmpfs(t, b.Out, 8<<20, 0)
	fails(t, b, b.do(t), fault.NoSpace, "no space left on device")
	if left, err := os.ReadDir(b.Out); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
	tmpfs(t, b.Out, 1<<30, syscall.MS_REMOUNT)
	b.must(t)
	equalsClean(t, b)
}

func TestTwoBuildsAtOnceOnOneCacheAndFolder(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, nil))
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if r := b.do(t); r.exit != 0 {
				t.Errorf("exit code %d\n%s", r.exit, r.output)
			}
		})
	}
	both.Wait()
	equalsClean(t, b)
}

func TestManyCleanBuildsAreEqual(t *testing.T) {
	a := needArchive(t)
	for range 2 {
		b := newBuild(t, a.serve(t, nil))
		b.must(t)
		equalsClean(t, b)
	}
}
