package faults

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// damage flips a bit in the middle of every file below a folder that name
// matches, and returns how many there were.
func damage(t *testing.T, dir string, name func(string) bool) (damaged int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !name(path) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		data[len(data)/2] ^= 4
		damaged++
		if err := os.Remove(path); err != nil { // it may be read-only
			return err
		}
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return damaged
}

// Each cache is damaged while nothing runs; what is made after that is clean, at
// the latest by the second build.
func TestDamagedCachesAreMadeAnew(t *testing.T) {
	a := needArchive(t)
	mirror := a.serve(t, nil)
	b := newBuild(t, mirror)
	b.must(t)
	equalsClean(t, b)
	for _, c := range []struct {
		name, dir string
		files     func(string) bool
		forget    []string // what would otherwise not ask for it
		builds    int      // until the first that succeeds
	}{
		{"downloads", "downloads", anyFile, []string{"inputs", "engine"}, 1},
		{"input bundles", "inputs/blobs", anyFile, []string{"engine"}, 2},
		{"the index of input bundles", "inputs/index", anyFile, nil, 1},
		{"compressed blocks", "blocks", anyFile, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if damage(t, filepath.Join(b.Cache, c.dir), c.files) == 0 {
				t.Fatal("nothing was there to damage")
			}
			for _, dir := range c.forget {
				if err := os.RemoveAll(filepath.Join(b.Cache, dir)); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range outputs {
				if err := os.Remove(b.output(name)); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			for n := 1; ; n++ {
				r := b.do(t)
				if r.exit == 0 {
					break
				}
				t.Logf("build %d: exit code %d: %s", n, r.exit, lastLine(r.output))
				if n == c.builds {
					t.Fatalf("it does not succeed\n%s", r.output)
				}
			}
			equalsClean(t, b)
		})
	}
}

func anyFile(string) bool { return true }

// damagePages flips a bit in every so many pages of a database.
func damagePages(t *testing.T, name string, from, each int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const page, flags, count = 4096, 8, 10 // bbolt's page header: id, flags, count, overflow
	for n, at := 0, from*page; at < len(data); n, at = n+1, at+each*page {
		data[at+[]int{flags, count, count + 1}[n%3]] ^= 1 << (n % 8)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Bits flip in a database of the engine: BuildKit does not survive reading it, or
// fails for ever. The next build finds out, and starts from an empty engine.
func TestDamagedDatabasesOfTheEngineAreMadeAnew(t *testing.T) {
	a := needArchive(t)
	b := newBuild(t, a.serve(t, nil))
	b.must(t)
	for _, d := range damagedDatabases {
		t.Run(fmt.Sprint(d.name, " from page ", d.from), func(t *testing.T) {
			damagePages(t, filepath.Join(b.Cache, "engine", d.name), d.from, d.each)
			for n := 1; ; n++ {
				for _, name := range outputs {
					if err := os.Remove(b.output(name)); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
				}
				r := b.do(t)
				if r.exit == 0 {
					break
				}
				t.Logf("build %d: exit code %d: %s", n, r.exit, lastLine(r.output))
				if n == 3 {
					t.Fatalf("it does not succeed\n%s", r.output)
				}
			}
			equalsClean(t, b)
		})
	}
}

// database is one of the engine's, and which of its pages are damaged.
type database struct {
	name       string
	from, each int
}
