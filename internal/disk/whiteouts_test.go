package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/hostdir"
	"nodesmith.dev/nodesmith/internal/whiteout"
)

func TestWhiteoutsGetTheirPlacesInTheTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a-b", "a/b/c", "a/taken", "z"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := hostdir.Entries(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	w := whiteouts{mounted: []string{"/", "/data"}, list: whiteout.List{
		ModTime: time.Unix(5, 0), Paths: []string{"a/a", "a/b/d", "a/taken", "data/x", "gone/x", "z/x"},
	}}
	var got []string
	for _, e := range join(entries, w.on("/")) {
		name := e.Path
		if e.Mode&fs.ModeCharDevice != 0 {
			name += " hidden"
			if e.Major != 0 || e.Minor != 0 || e.UID != 0 || !e.ModTime.Equal(time.Unix(5, 0)) {
				t.Errorf("%+v", e)
			}
		}
		got = append(got, name)
	}
	if want := ". a a/a hidden a/b a/b/c a/b/d hidden a/taken a-b z"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", strings.Join(got, " "), want)
	}
	if on := w.on("/data"); len(on) != 1 || on[0].Path != "x" {
		t.Errorf("on another file system: %+v", on)
	}
}

func TestATreeWithoutWhiteoutsKeepsItsOrder(t *testing.T) {
	entries := []ext4.Entry{{Path: "."}, {Path: "b"}, {Path: "a"}}
	if got := join(entries, nil); got[1].Path != "b" {
		t.Errorf("%+v", got)
	}
}
