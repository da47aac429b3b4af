package containerimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/testenv"
)

var testEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// makeTree writes a small tree with what layers must carry: a set-ID program, a
// hard link, a symbolic link, a long name, a file capability, a device, an
// owner, and enough data for several frames.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		full := filepath.Join(dir, name)
		must(os.MkdirAll(filepath.Dir(full), 0o755))
		must(os.WriteFile(full, []byte(content), 0o600))
		must(os.Chmod(full, mode))
	}
	write("usr/bin/su", "su", 0o755|os.ModeSetuid)
	write("usr/bin/ping", "ping", 0o755)
	must(unix.Setxattr(filepath.Join(dir, "usr/bin/ping"), "security.capability", fileCapabilities(13), 0))
	write("usr/share/"+strings.Repeat("long/", 40)+strings.Repeat("n", 200), "deep", 0o644)
	must(os.Link(filepath.Join(dir, "usr/bin/su"), filepath.Join(dir, "usr/bin/zu")))
	must(os.Symlink("/usr/bin", filepath.Join(dir, "bin")))
	must(unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.Mkdir(filepath.Join(dir, "owned"), 0o700))
	must(os.Chown(filepath.Join(dir, "owned"), 123, 456))
	var big strings.Builder
	for i := range 1_500_000 {
		fmt.Fprintf(&big, "line %d\n", i*i)
	}
	write("usr/share/big", big.String(), 0o644)
	return dir
}

// treeConfig is two images that share a layer.
func treeConfig(tree, output string) Config {
	return Config{
		Output: output, Architecture: runtime.GOARCH,
		Layers: []Layer{
			{Name: "tree", Trees: []Tree{{From: tree, To: "/"}}},
			{Name: "one", Files: []File{{Content: "one\n", To: "/etc/one", Mode: 0o640, UID: 7, GID: 8}}},
			{Name: "two", Files: []File{{Content: "two\n", To: "/etc/two", Mode: 0o644}}, Directories: []Directory{{Path: "/tmp", Mode: 0o1777}}},
		},
		Images: []Image{
			{Name: "example.com/one:v1", Layers: []string{"tree", "one"}, Entrypoint: []string{"/usr/bin/su"}},
			{Name: "example.com/two:v1", Layers: []string{"tree", "two"}},
		},
	}
}

// assemble runs Assemble and fails the test on an error.
func assemble(t *testing.T, cfg Config) []Assembled {
	t.Helper()
	done, err := Assemble(t.Context(), cfg, testEpoch, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// listing describes every file below dir: type, mode, owner, device, time,
// content and capability.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		detail := ""
		switch {
		case d.Type().IsRegular():
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			h := sha256.New()
			if _, err := io.Copy(h, file); err != nil {
				return err
			}
			capability := make([]byte, 64)
			n, _ := unix.Lgetxattr(name, "security.capability", capability)
			detail = fmt.Sprintf("%s %x nlink=%d", hex.EncodeToString(h.Sum(nil)), capability[:max(n, 0)], st.Nlink)
		case d.Type()&fs.ModeSymlink != 0:
			if detail, err = os.Readlink(name); err != nil {
				return err
			}
		}
		rel, _ := filepath.Rel(dir, name)
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %x %d %s", rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec, detail))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestSameInputsGiveSameStoreWhateverTheMachine(t *testing.T) {
	testenv.NeedRoot(t)
	var stores [2][]string
	for i, cores := range []int{1, 5} {
		previous := runtime.GOMAXPROCS(cores)
		output := filepath.Join(t.TempDir(), "somewhere", strings.Repeat("x", i*100+1))
		assemble(t, treeConfig(makeTree(t), output))
		runtime.GOMAXPROCS(previous)
		stores[i] = listing(t, output)[1:] // without output itself
	}
	for i, line := range stores[0] {
		if i >= len(stores[1]) || line != stores[1][i] {
			t.Fatalf("line %d differs:\n%s\n%s", i, line, stores[1][min(i, len(stores[1])-1)])
		}
	}
	if len(stores[0]) != len(stores[1]) {
		t.Fatalf("%d files, then %d", len(stores[0]), len(stores[1]))
	}
}

func TestStoreCarriesNoTimeButTheEpoch(t *testing.T) {
	testenv.NeedRoot(t)
	output := t.TempDir()
	assemble(t, treeConfig(makeTree(t), output))
	for _, line := range listing(t, filepath.Join(output, "var")) {
		if !strings.Contains(line, fmt.Sprintf(" %d ", testEpoch.Unix())) {
			t.Errorf("another time: %s", line)
		}
	}
}

func TestSnapshotsHoldWhatTheTreeHeld(t *testing.T) {
	testenv.NeedRoot(t)
	tree, output := makeTree(t), t.TempDir()
	assemble(t, treeConfig(tree, output))
	withoutTimes := func(lines []string) []string {
		lines = lines[1:] // the root
		for i, line := range lines {
			f := strings.Fields(line)
			lines[i] = strings.Join(append(f[:4:4], f[5:]...), " ")
		}
		return lines
	}
	want := withoutTimes(listing(t, tree))
	got := withoutTimes(listing(t, filepath.Join(output, storeRoot, snapshotsDir, "snapshots/1/fs")))
	if !slices.Equal(want, got) {
		t.Errorf("the tree\n%s\nbecame\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

func TestAStoreIsWrittenOnlyOnce(t *testing.T) {
	testenv.NeedRoot(t)
	cfg := treeConfig(makeTree(t), t.TempDir())
	assemble(t, cfg)
	if _, err := Assemble(t.Context(), cfg, testEpoch, func(string) {}); err == nil {
		t.Error("a second store was written over the first")
	}
}

func TestCancelledAssemblyEnds(t *testing.T) {
	testenv.NeedRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Assemble(ctx, treeConfig(makeTree(t), t.TempDir()), testEpoch, func(string) {}); err == nil {
		t.Error("no error")
	}
}
