package publish

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/lru"
)

// finish makes a journal that knows of a step which is done, and of others as given.
func finish(t *testing.T, path string, unfinished ...*Step) {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	done := &Step{ID: "image", Action: Create, Kind: "image", Name: "a"}
	err = errors.Join(j.SetHeader(Header{Place: "p", Image: "a"}), j.begin(done), j.Note(done.ID, "id", "ami-1"), j.end(done))
	for _, s := range unfinished {
		err = errors.Join(err, j.begin(s))
	}
	if err = errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyJournalsThatNameNothingUnfinishedGo(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name, "0123.journal") }
	finish(t, path("done"))
	finish(t, path("begun"), &Step{ID: "snapshot", Action: Create, Kind: "snapshot", Name: "a"})
	finish(t, path("half-retracted"), &Step{ID: "image", Action: Delete, Kind: "image", Name: "a"})
	finish(t, path("in-use"))
	finish(t, path("new"))
	for _, name := range []string{"done/damaged.journal", "done/snap-1.blocks"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, err := OpenJournal(path("in-use"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	}()
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path("new"), later, later); err != nil {
		t.Fatal(err)
	}
	entries, err := Entries(dir)
	if err != nil || len(entries) != 7 {
		t.Fatalf("%d journals, %v", len(entries), err)
	}
	var newest int64
	for _, e := range entries {
		if e.Used.Equal(later) || e.Used.After(time.Now()) {
			newest = e.Bytes
		}
	}
	kept := int64(0)
	for _, e := range entries {
		if e.Kept {
			kept += e.Bytes
		}
	}
	for _, e := range lru.Excess(entries, kept+newest) {
		if err := e.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "done", "snap-1.blocks")); err == nil {
		t.Error("what a publisher can find out anew is still there")
	}
	for name, want := range map[string]bool{"done/0123": false, "done/damaged": true, "begun/0123": true, "half-retracted/0123": true, "in-use/0123": true, "new/0123": true} {
		if _, err := os.Stat(filepath.Join(dir, name+journalSuffix)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is listed as finished may be begun anew before it is removed.
func TestAJournalThatIsBegunAnewStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "place", "0123.journal")
	finish(t, path)
	entries, err := Entries(filepath.Dir(filepath.Dir(path)))
	if err != nil || len(entries) != 1 || entries[0].Kept {
		t.Fatalf("%+v, %v", entries, err)
	}
	finish(t, path, &Step{ID: "copy", Action: Create, Kind: "copy", Name: "a"})
	if err := entries[0].Remove(); err != nil {
		t.Error(err)
	}
	if state, err := ReadState(path); err != nil || state.finished() {
		t.Errorf("%v, %v", state, err)
	}
}

// A process may have opened a journal's file before it was removed, and lock it after.
func TestAFileWithoutItsNameIsNoJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "place", "0123.journal")
	finish(t, path)
	file, err := openLocked(path)
	if err != nil {
		t.Fatal(err)
	}
	if !named(file) {
		t.Error("it has its name")
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if named(file) {
		t.Error("another file has its name")
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
