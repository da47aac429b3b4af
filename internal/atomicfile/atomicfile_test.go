package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func entries(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestAFileHasItsNameOnlyOnceItIsWhole(t *testing.T) {
	dir, waiting := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "file")
	for _, c := range []struct{ name, dir, content string }{
		{"beside its place", "", "one"},
		{"in a directory of the caller's", waiting, "two"},
	} {
		f, err := New(path, c.dir, 0o600)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, err := f.WriteString(c.content); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) == c.content {
			t.Errorf("%s: it has its name before it is whole", c.name)
		}
		if err := f.CloseAtomicallyReplace(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := f.Cleanup(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != c.content {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if entries(t, dir) != 1 || entries(t, waiting) != 0 {
		t.Error("temporary files are left")
	}
}

func TestAFileThatIsGivenUpLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := WriteFile(path, "", []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := New(path, "", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "old" || entries(t, dir) != 1 {
		t.Errorf("%q, and %d files", got, entries(t, dir))
	}
	if err := WriteFile(filepath.Join(dir, "none", "file"), "", nil, 0o644); err == nil {
		t.Error("a directory that is not there took a file")
	}
}
