package engine

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTrimRemovesWhatIsTooMuchAndLeavesTheRest(t *testing.T) {
	f := newFixture(t)
	r := &ran{names: map[string]bool{}}
	e := f.open(t, r.watch)
	if err := e.Solve(t.Context(), "title", f.step("sparse")); err != nil {
		t.Fatal(err)
	}
	usage, err := e.Usage(t.Context())
	if err != nil || usage.Total == 0 || usage.Compile != 0 {
		t.Fatalf("%+v, %v", usage, err)
	}
	if freed, err := e.Trim(t.Context(), usage.Total+1); err != nil || freed != 0 {
		t.Errorf("within the bound %d bytes went, %v", freed, err)
	}
	// Directories that the kernel writes late count for more or less.
	if freed, err := e.Trim(t.Context(), 0); err != nil || freed < usage.Total*9/10 || freed > usage.Total*11/10 {
		t.Errorf("%d bytes went of %d, %v", freed, usage.Total, err)
	}
	if usage, err = e.Usage(t.Context()); err != nil || usage.Total != 0 {
		t.Errorf("left are %+v, %v", usage, err)
	}
	clear(r.names)
	if err := e.Solve(t.Context(), "title", f.step("sparse")); err != nil || !r.names["step sparse"] {
		t.Errorf("the step ran anew: %v, %v", r.names["step sparse"], err)
	}
}

func TestResultsThatAKilledEngineReadAreUnmountedAtTheNextStart(t *testing.T) {
	f := newFixture(t)
	e, err := Open(t.Context(), Options{Root: f.root(), Inputs: f.inputs.Blobs})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Solve(t.Context(), "title", f.step("sparse")); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	layers, err := filepath.Glob(filepath.Join(f.root(), workerPattern, "snapshots", "snapshots", "*", "fs"))
	if err != nil || len(layers) < 2 {
		t.Fatalf("layers %v, %v", layers, err)
	}
	// As BuildKit mounts several layers, and one.
	overlaid, bound, others := filepath.Join(f.dir, "buildkit-mount1"), filepath.Join(f.dir, "buildkit-mount2"), filepath.Join(f.dir, "other")
	for _, dir := range []string{overlaid, bound, others} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	if err := unix.Mount("overlay", overlaid, "overlay", unix.MS_RDONLY, "lowerdir="+layers[0]+":"+layers[1]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(layers[0], bound, "", unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(t.TempDir(), others, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	f.started(t)
	if left := mounts(t, f.dir); len(left) != 1 || left[0] != others {
		t.Errorf("mounted are %v", left)
	}
	for _, dir := range []string{overlaid, bound} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
}
