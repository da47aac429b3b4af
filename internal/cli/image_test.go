package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestQEMUReadsAnImageOfEveryFormatAndNothingIsLeft(t *testing.T) {
	testenv.Need(t, "qemu-img")
	path, dir, temporary := rawDisk(t), t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	out, errOut, code := command("convert", path, "--to", strings.Join(known.Names(), ","), "-o", dir)
	if code != 0 {
		t.Fatal(errOut)
	}
	for file := range strings.Lines(out) {
		image, disk, err := openForQEMU(t.Context(), subject{name: strings.TrimSpace(file)}, "")
		if err != nil {
			t.Fatal(err)
		}
		size, err := disk.Size(t.Context())
		if err != nil || size != image.Size() {
			t.Errorf("%s: QEMU reads a disk of %d bytes, want %d (%v)", file, size, image.Size(), err)
		}
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}
