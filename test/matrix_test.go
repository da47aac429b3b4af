//go:build all

package test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// matrix is every operating system with every Kubernetes for every infrastructure.
// All three kinds bring something of their own: each of these infrastructures has
// packages that the others have not.
type matrix struct{ releases, versions, infrastructures []string }

var wholeMatrix = matrix{
	releases:        []string{"12", "13"},
	versions:        []string{"v1.34.0", "v1.35.0", "v1.36.4", "v1.37.2"},
	infrastructures: []string{"vsphere", "aws", "azure"},
}

// matrixOf is the matrix that NODESMITH_MATRIX asks for, such as 2x2x2: the first
// so many of each; all without it.
func matrixOf(t *testing.T) matrix {
	size := os.Getenv("NODESMITH_MATRIX")
	if size == "" {
		return wholeMatrix
	}
	var releases, versions, infrastructures int
	if _, err := fmt.Sscanf(size, "%dx%dx%d", &releases, &versions, &infrastructures); err != nil ||
		releases > len(wholeMatrix.releases) || versions > len(wholeMatrix.versions) || infrastructures > len(wholeMatrix.infrastructures) {
		t.Fatalf("NODESMITH_MATRIX=%s: want something like 2x2x2, up to 2x4x3", size)
	}
	return matrix{wholeMatrix.releases[:releases], wholeMatrix.versions[:versions], wholeMatrix.infrastructures[:infrastructures]}
}

// sharedSteps are the steps that images have in common, and by what they differ.
var sharedSteps = []struct {
	title string
	match *regexp.Regexp
	of    func(release, version, infrastructure string) string
}{
	{"operating systems", regexp.MustCompile(`^os: configure`), func(r, _, _ string) string { return r }},
	{"Kubernetes versions", regexp.MustCompile(`^kubernetes: compile kubernetes `), func(_, v, _ string) string { return v }},
	{"infrastructures", regexp.MustCompile(`^(\w+): packages: configure`), func(r, _, i string) string { return r + " " + i }},
}

// M x N x P images cost M + N + M x P steps that take long and a disk each. With
// NODESMITH_MATRIX the images are built and measured; without it each also holds
// the contract, and one of each operating system with each Kubernetes boots.
func TestTheMatrixCostsTheSumNotTheProduct(t *testing.T) {
	testenv.NeedRoot(t)
	m, r := matrixOf(t), newMatrixRun(t)
	prove := os.Getenv("NODESMITH_MATRIX") == ""
	if prove {
		testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	}
	for _, release := range m.releases {
		for _, version := range m.versions {
			r.build(t, release, version, m.infrastructures, prove)
		}
	}
	disk := r.oneDisk(t, m)
	wants := []int{len(m.releases), len(m.versions), len(m.releases) * len(m.infrastructures)}
	for i, s := range sharedSteps {
		times := 0
		for name, n := range r.ran[i] {
			if times += n; n != 1 {
				t.Errorf("the step of %s ran %d times", name, n)
			}
		}
		t.Logf("| steps of %s | %d |", s.title, times)
		if times != wants[i] {
			t.Errorf("%d steps of %s, want %d", times, s.title, wants[i])
		}
	}
	images := len(m.releases) * len(m.versions) * len(m.infrastructures)
	aim := 1.3*r.steps + float64(images)*disk
	t.Logf("| %d images built in | %.0f s |", images, r.wall)
	t.Logf("| those steps, and the others that compile and install | %.0f s |", r.steps)
	t.Logf("| one disk | %.1f s |", disk)
	t.Logf("| 1.3 x the steps + %d x one disk | %.0f s: %.2f of it |", images, aim, r.wall/aim)
	stored := r.size(t, "data")
	t.Logf("| the store | %.2f GB: %.2f of the distinct blocks, compressed, %.2f GB; the images have %.1f GB |",
		gb(stored), float64(stored)/float64(r.compressed), gb(r.compressed), gb(r.whole))
	if float64(stored) > 1.3*float64(r.compressed) {
		t.Error("the store takes more than 1.3 of that")
	}
	t.Logf("| caches, store and output, at most | %.1f GB |", gb(r.most))
	t.Logf("| downloads, Go modules and inputs, which the user's other builds share | %.1f GB |", gb(r.linked(t)))
	if r.most > 30e9 {
		t.Error("more than 30 GB were in use")
	}
}

func gb(bytes int64) float64 { return float64(bytes) / 1e9 }

// matrixRun is one run, in a folder of its own: it finds no cache but downloads.
type matrixRun struct {
	dir  string
	ran  []map[string]int // of sharedSteps
	seen map[string]bool  // blocks, by digest

	wall, steps             float64 // seconds
	compressed, whole, most int64   // bytes
	encoder                 *zstd.Encoder
}

func newMatrixRun(t *testing.T) *matrixRun {
	t.Helper()
	r := &matrixRun{dir: emptyEngine(t), seen: map[string]bool{}}
	for range sharedSteps {
		r.ran = append(r.ran, map[string]int{})
	}
	var err error
	// As the store compresses its chunks.
	r.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// command runs nodesmith on the run's own caches and store.
func (r *matrixRun) command(t *testing.T, args ...string) (out, told string, seconds float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+r.dir, "XDG_DATA_HOME="+filepath.Join(r.dir, "data"), "XDG_STATE_HOME="+r.dir)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("nodesmith %v: %v\n%s", args, err, stderr.String())
	}
	return stdout.String(), stderr.String(), time.Since(start).Seconds()
}

// building is the command that builds the images of one operating system with one
// Kubernetes into a folder.
func building(out, release, version string, infrastructures []string) []string {
	return []string{
		"build", "-f", example, "-o", out, "--progress", "json", "--infrastructure", strings.Join(infrastructures, ","),
		"--set", "metadata.name=debian-" + release, "--set", "spec.os.version=" + release, "--set", "spec.kubernetes.version=" + version,
	}
}

// build builds the images of one operating system with one Kubernetes.
func (r *matrixRun) build(t *testing.T, release, version string, infrastructures []string, prove bool) {
	out := t.TempDir()
	images, told, seconds := r.command(t, building(out, release, version, infrastructures)...)
	r.wall += seconds
	t.Logf("| Debian %s, Kubernetes %s, %s | %.0f s |", release, version, strings.Join(infrastructures, ", "), seconds)
	ended := map[string]bool{}
	for _, e := range events(t, told) {
		if e.Type != progress.Finished || ended[e.ID] || !slices.Contains([]string{"tools", "os", "kubernetes", "images", "node"}, e.Stage) {
			continue
		}
		ended[e.ID] = true
		infrastructure, _, _ := strings.Cut(e.Step, ":")
		r.steps += e.Seconds
		for i, s := range sharedSteps {
			if s.match.MatchString(e.Step) {
				t.Logf("| %s | %.0f s |", e.Step, e.Seconds)
				r.ran[i][s.of(release, version, infrastructure)]++
			}
		}
	}
	r.most = max(r.most, r.inUse(t, out))
	for image := range strings.Lines(images) {
		r.count(t, strings.TrimSpace(image))
	}
	if prove {
		r.prove(t, strings.Fields(images), version)
	}
	if err := os.RemoveAll(out); err != nil { // before the next ones need the room
		t.Error(err)
	}
	// Minor versions share little of what is compiled, and disks are made in seconds:
	// who wants to stay below 30 GB does without the old ones.
	r.command(t, "prune", "--bound", "compile=5GiB", "--bound", "engine=14GiB")
}

// oneDisk returns how many seconds an image of the last build takes when nothing
// but a file of the user's differs.
func (r *matrixRun) oneDisk(t *testing.T, m matrix) float64 {
	last := building(t.TempDir(), m.releases[len(m.releases)-1], m.versions[len(m.versions)-1], m.infrastructures)
	_, _, seconds := r.command(t, append(last, "--set", "spec.files=[{path: /etc/motd, content: changed}]")...)
	return seconds / float64(len(m.infrastructures))
}

// count adds an image's blocks to those that were seen.
func (r *matrixRun) count(t *testing.T, path string) {
	t.Helper()
	disk, err := known.OpenFile(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	block, zeros := make([]byte, 512<<10), make([]byte, 512<<10)
	for offset := int64(0); offset < disk.Size(); {
		extent, err := disk.NextData(offset)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		offset = extent.Offset / int64(len(block)) * int64(len(block))
		data := block[:min(int64(len(block)), disk.Size()-offset)]
		if _, err := disk.ReadAt(data, offset); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		offset += int64(len(block))
		if string(data) == string(zeros[:len(data)]) {
			continue
		}
		r.whole += int64(len(data))
		if sum := sha256.Sum256(data); !r.seen[string(sum[:])] {
			r.seen[string(sum[:])] = true
			r.compressed += int64(len(r.encoder.EncodeAll(data, nil)))
		}
	}
}

// size is what a folder of the run takes on the disk.
func (r *matrixRun) size(t *testing.T, folder string) int64 {
	return size(t, filepath.Join(r.dir, folder))
}

// inUse is what the run takes with an output folder, all but linked, and logs what
// takes it.
func (r *matrixRun) inUse(t *testing.T, out string) int64 {
	t.Helper()
	whole, engine, blocks, data, images := r.size(t, "."), r.size(t, "nodesmith/engine"), r.size(t, "nodesmith/blocks"), r.size(t, "data"), size(t, out)
	t.Logf("| in use: engine %.1f, compressed blocks %.1f, store %.1f, images %.1f, others %.1f | %.1f GB |",
		gb(engine), gb(blocks), gb(data), gb(images), gb(whole-engine-blocks-data), gb(whole+images))
	return whole + images
}

// linked is what the folders take that were there before.
func (r *matrixRun) linked(t *testing.T) (bytes int64) {
	t.Helper()
	for _, name := range linkedCaches {
		folder, err := filepath.EvalSymlinks(filepath.Join(r.dir, "nodesmith", name))
		if err != nil {
			t.Fatal(err)
		}
		bytes += size(t, folder)
	}
	return bytes
}

// size returns the bytes that the files of a folder have on the disk.
func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				stat := info.Sys().(*syscall.Stat_t)
				bytes += stat.Blocks * 512 / int64(stat.Nlink)
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// prove checks images against the contract, and boots the first.
func (r *matrixRun) prove(t *testing.T, images []string, version string) {
	t.Helper()
	for _, image := range images {
		out, _, _ := r.command(t, "verify", image, "--level", "contract", "--strict", "--json")
		var checked report.Verification
		if err := json.Unmarshal([]byte(out), &checked); err != nil {
			t.Fatal(err)
		}
		if checked.Image.Kubernetes != version {
			t.Errorf("%s holds Kubernetes %s, want %s", filepath.Base(image), checked.Image.Kubernetes, version)
		}
		t.Logf("| %s | %d checks of the contract passed |", filepath.Base(image), checked.Counts()[contract.Passed])
	}
	_, _, seconds := r.command(t, "verify", images[0], "--level", "boot", "--firmware", "uefi", "--json", "--deadline", "30m")
	t.Logf("| %s | booted and reported in %.0f s |", filepath.Base(images[0]), seconds)
}
