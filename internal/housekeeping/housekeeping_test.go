package housekeeping

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	images "nodesmith.dev/nodesmith/internal/source/registry"
)

// unit is what each thing in a test's caches takes, about.
const unit = 1 << 20

// cache is a cache directory without an engine, whose things the real packages made.
type cache struct {
	t   *testing.T
	dir string
}

func newCache(t *testing.T) cache {
	t.Helper()
	return cache{t: t, dir: filepath.Join(t.TempDir(), "cache")}
}

func (c cache) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// content is different for each number.
func content(n int) []byte { return []byte(strings.Repeat(fmt.Sprintf("%07d\n", n), unit/8)) }

// downloads lets the real cache fetch three files, and use the first one again.
func (c cache) downloads() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
		_, _ = w.Write(content(n))
	}))
	defer server.Close()
	files := fetch.New(filepath.Join(c.dir, "downloads"), nil)
	for _, n := range []int{1, 2, 3, 1} {
		sum := sha256.Sum256(content(n))
		_, err := files.Fetch(c.t.Context(), fetch.File{URL: fmt.Sprintf("%s/%d", server.URL, n), SHA256: hex.EncodeToString(sum[:]), Size: unit})
		c.must(err)
		time.Sleep(2 * time.Millisecond) // file systems count in ticks of the kernel
	}
	sum := sha256.Sum256(content(2))
	c.write("downloads/sha256/" + hex.EncodeToString(sum[:])[:2] + "/.left123")
}

// inputs lets the real store take three bundles, and use the first one again.
func (c cache) inputs() {
	s, err := bundle.Open(filepath.Join(c.dir, "inputs"))
	c.must(err)
	for _, n := range []int{1, 2, 3, 1} {
		_, err := s.Content(c.t.Context(), "test", bundle.File{Name: "file", Mode: 0o644, Data: content(n)})
		c.must(err)
		time.Sleep(2 * time.Millisecond)
	}
	c.write("inputs/ingest/0123/data")
}

// images pulls three container images from a registry, and the first one again.
func (c cache) images() {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	var locked []lock.PulledImage
	for n := range 3 {
		image, err := random.Image(unit, 1)
		c.must(err)
		reference, err := name.ParseReference(fmt.Sprintf("%s/image%d", strings.TrimPrefix(server.URL, "http://"), n))
		c.must(err)
		c.must(remote.Write(reference, image, remote.WithContext(c.t.Context())))
		digest, err := image.Digest()
		c.must(err)
		locked = append(locked, lock.PulledImage{Name: reference.Name(), Digest: digest.String()})
	}
	for _, n := range []int{0, 1, 2, 0} {
		_, err := images.Fetch(c.t.Context(), filepath.Join(c.dir, "images"), locked[n], "amd64")
		c.must(err)
		time.Sleep(2 * time.Millisecond)
	}
	c.write("images/sha256/.pull-123/index.json")
}

// blocks lets the real cache keep three segments.
func (c cache) blocks() {
	for n := range 3 {
		blocks := blockcache.Open(filepath.Join(c.dir, "blocks"), 100*unit)
		for i := range 16 {
			data := content(n*16 + i)[:unit/16]
			blocks.Put("test", blockcache.Key{Chunk: sha256.Sum256(data)}, data)
		}
		blocks.Close()
		time.Sleep(2 * time.Millisecond)
	}
}

// modules lays out what the go command and package gomodules leave: an unpacked
// module that can't be written to, a toolchain, two bundles that share a file, and
// a file that neither has.
func (c cache) modules() {
	c.write("go/pkg/mod/example.com/a@v1.0.0/a.go")
	c.must(os.Chmod(filepath.Join(c.dir, "go/pkg/mod/example.com/a@v1.0.0"), 0o500))
	c.t.Cleanup(func() { _ = os.Chmod(filepath.Join(c.dir, "go/pkg/mod/example.com/a@v1.0.0"), 0o700) })
	c.write("go/toolchains/v1/bin/go")
	c.write("go/toolchains/.tmp-1/go/bin/go")
	for _, file := range []string{"a", "b", "c", "alone"} {
		c.write("go/pkg/mod/cache/download/" + file + ".zip")
	}
	for _, link := range []string{"old/a", "old/b", "new/b", "new/c"} {
		to := filepath.Join(c.dir, "go/bundles", link+".zip")
		c.must(os.MkdirAll(filepath.Dir(to), 0o755))
		c.must(os.Link(filepath.Join(c.dir, "go/pkg/mod/cache/download", filepath.Base(to)), to))
	}
	for i, name := range []string{"pkg/mod/example.com/a@v1.0.0", "pkg/mod/cache/download", "toolchains/v1", "bundles/old", "bundles/new"} {
		at := time.Now().Add(time.Duration(i-10) * time.Minute)
		c.must(os.Chtimes(filepath.Join(c.dir, "go", name), at, at))
	}
}

// write makes a file of one unit.
func (c cache) write(path string) {
	c.t.Helper()
	path = filepath.Join(c.dir, path)
	c.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content(7), 0o644)))
}

// run brings one kind within a bound.
func (c cache) run(kind string, bound int64, look bool) Kind {
	c.t.Helper()
	settings := host.Settings{CacheDir: c.dir, StateDir: filepath.Join(c.dir, "state"), StoreDir: filepath.Join(c.dir, "no store"), Bounds: host.DefaultBounds, Now: time.Now()}
	*settings.Bounds.Of(kind) = host.Amount(bound)
	r, err := Run(c.t.Context(), Options{Settings: settings, Look: look})
	c.must(err)
	for _, k := range r.Kinds {
		if k.Name == kind {
			return k
		}
	}
	c.t.Fatalf("no kind %s", kind)
	return Kind{}
}

// bytes adds up what lies in a kind's folder, each file once.
func (c cache) bytes(kind string) (bytes int64) {
	var seen []fs.FileInfo
	err := filepath.WalkDir(filepath.Join(c.dir, kind), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		for _, other := range seen {
			if os.SameFile(info, other) {
				return nil
			}
		}
		seen, bytes = append(seen, info), bytes+info.Size()
		return err
	})
	c.must(err)
	return bytes
}

func TestEachKindIsBroughtWithinItsBound(t *testing.T) {
	for kind, test := range map[string]struct {
		fill func(cache)
		// stale is what goes whatever the bound; all is everything, in units.
		all, stale int64
	}{
		"downloads": {cache.downloads, 4, 1}, "inputs": {cache.inputs, 4, 1}, "images": {cache.images, 4, 1}, "blocks": {cache.blocks, 3, 0},
		"go": {cache.modules, 7, 1},
	} {
		t.Run(kind, func(t *testing.T) {
			c := newCache(t)
			test.fill(c)
			about := func(what string, got, units int64) {
				t.Helper()
				if got < units*unit || got > units*unit+unit/4 {
					t.Errorf("%s: %d bytes, want about %d MiB", what, got, units)
				}
			}
			about("measured", c.run(kind, 100*unit, true).Bytes, test.all)
			about("there after a look", c.bytes(kind), test.all)
			k := c.run(kind, 100*unit, false)
			about("freed within the bound", k.Freed, test.stale)
			about("left within the bound", c.bytes(kind), test.all-test.stale)
			if k = c.run(kind, 2*unit+unit/2, true); k.Freed == 0 || c.bytes(kind) < k.Bytes {
				t.Errorf("a look would free %d bytes and left %d of %d", k.Freed, c.bytes(kind), k.Bytes)
			}
			k = c.run(kind, 2*unit+unit/2, false)
			about("left of two and a half", c.bytes(kind), 2)
			about("said to be left", k.Bytes-k.Freed, 2)
			k = c.run(kind, 0, false)
			if left := c.bytes(kind); left > unit/4 {
				t.Errorf("%d bytes are left of nothing; %d were freed", left, k.Freed)
			}
		})
	}
}

func TestWhatWasUsedLastStays(t *testing.T) {
	c := newCache(t)
	c.downloads()
	c.run("downloads", unit, false)
	sum := sha256.Sum256(content(1))
	if _, err := os.Stat(fetch.New(filepath.Join(c.dir, "downloads"), nil).Path(hex.EncodeToString(sum[:]))); err != nil {
		t.Error(err)
	}
	c.modules()
	c.run("go", 3*unit, false)
	for path, want := range map[string]bool{
		"bundles/new/b.zip": true, "bundles/new/c.zip": true, "bundles/old/a.zip": true, "toolchains/v1": false, "pkg/mod/example.com/a@v1.0.0": false,
	} {
		if _, err := os.Stat(filepath.Join(c.dir, "go", path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	c.run("go", 2*unit, false)
	if _, err := os.Stat(filepath.Join(c.dir, "go/bundles/old")); err == nil {
		t.Error("the older bundle is still there")
	}
	if data, err := os.ReadFile(filepath.Join(c.dir, "go/bundles/new/b.zip")); err != nil || len(data) != unit {
		t.Errorf("the file that both had: %d bytes, %v", len(data), err)
	}
}

func TestABundleThatWentIsMadeAnew(t *testing.T) {
	c := newCache(t)
	c.inputs()
	c.run("inputs", 0, false)
	s, err := bundle.Open(filepath.Join(c.dir, "inputs"))
	c.must(err)
	listed := false
	for range 2 {
		_, err = s.Lazy(t.Context(), "test", bundle.Source{Key: "key", Files: func() ([]bundle.File, error) {
			listed = true
			return []bundle.File{{Name: "file", Data: content(1)}}, nil
		}})
		c.must(err)
	}
	if !listed {
		t.Error("it was taken from nowhere")
	}
}

func TestWhileABuildRunsNothingOfItsGoes(t *testing.T) {
	c := newCache(t)
	lease, err := Use(t.Context(), c.dir, t.Logf)
	c.must(err)
	second, err := Use(t.Context(), c.dir, t.Logf) // builds don't wait for each other
	c.must(err)
	c.downloads()
	c.must(second.Close())
	if k := c.run("downloads", 0, false); k.Note == "" || k.Freed != 0 || c.bytes("downloads") < 3*unit {
		t.Errorf("%+v", k)
	}
	c.blocks() // may go: who reads a segment has it open
	if k := c.run("blocks", 0, false); k.Note != "" || k.Freed == 0 {
		t.Errorf("%+v", k)
	}
	c.must(lease.Close())
	if k := c.run("downloads", 0, false); k.Note != "" || c.bytes("downloads") != 0 {
		t.Errorf("%+v", k)
	}
}

func TestABuildWaitsForWhoRemovesAndForNoLonger(t *testing.T) {
	c := newCache(t)
	c.must(os.MkdirAll(c.dir, 0o755))
	remover, ok, err := alone(c.dir)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Use(ctx, c.dir, t.Logf); err == nil {
		t.Fatal("it did not wait")
	}
	begun := make(chan error)
	go func() {
		lease, err := Use(t.Context(), c.dir, t.Logf)
		if err == nil {
			err = lease.Close()
		}
		begun <- err
	}()
	c.must(remover.Close())
	c.must(<-begun)
}

func TestTheEndOfABuildLooksOnceAnHour(t *testing.T) {
	c := newCache(t)
	settings := host.Settings{CacheDir: c.dir, StateDir: filepath.Join(c.dir, "state"), StoreDir: filepath.Join(c.dir, "no store"), Bounds: host.DefaultBounds, Now: time.Now()}
	settings.Bounds.Blocks = 0
	left := func() bool { return c.bytes("blocks") > 0 }
	c.blocks()
	Tidy(t.Context(), settings, t.Logf)
	if left() {
		t.Error("the first build left what is too much")
	}
	c.blocks()
	Tidy(t.Context(), settings, t.Logf)
	if free, err := freeBytes(c.dir); err == nil && free > scarce && !left() {
		t.Error("the second one looked again")
	}
	settings.Now = settings.Now.Add(interval + time.Minute)
	Tidy(t.Context(), settings, t.Logf)
	if left() {
		t.Error("after an hour it did not look again")
	}
}
