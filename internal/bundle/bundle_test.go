package bundle

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store, dir
}

// manifestOf returns the digest that a bundle's graph state names.
func manifestOf(t *testing.T, state llb.State) digest.Digest {
	t.Helper()
	definition, err := state.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range definition.Def {
		if _, rest, ok := strings.Cut(string(op), "nodesmith.local/input@"); ok {
			return digest.Digest(rest[:len("sha256:")+64])
		}
	}
	t.Fatal("the state names no input")
	return ""
}

func contentOf(t *testing.T, store *Store, files ...File) digest.Digest {
	t.Helper()
	state, err := store.Content(t.Context(), "test", files...)
	if err != nil {
		t.Fatal(err)
	}
	return manifestOf(t, state)
}

// layer returns the headers and content of a bundle's only layer.
func layer(t *testing.T, store *Store, manifest digest.Digest) (headers []tar.Header, texts []string) {
	t.Helper()
	data, err := content.ReadBlob(t.Context(), store.Blobs, ocispecs.Descriptor{Digest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(data, &m); err != nil || len(m.Layers) != 1 {
		t.Fatalf("manifest %s: %v", data, err)
	}
	blob, err := store.Blobs.ReaderAt(t.Context(), m.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	archive := tar.NewReader(io.NewSectionReader(blob, 0, blob.Size()))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return headers, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		headers, texts = append(headers, *header), append(texts, string(text))
	}
}

// ingests lists what unfinished writes left in the store.
func ingests(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, "ingest"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return left
}

// blobs counts the blobs in the store.
func blobs(t *testing.T, store *Store) (n int) {
	t.Helper()
	err := store.Blobs.Walk(t.Context(), func(content.Info) error { n++; return nil })
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // before the first blob
		t.Fatal(err)
	}
	return n
}

func TestTheSameFilesAreTheSameBundle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "b")
	if err := os.WriteFile(path, []byte("beta"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	a, b := File{Name: "a", Mode: 0o755, Data: []byte("alpha")}, File{Name: "x/b", Mode: 0o644, Data: []byte("beta")}
	onDisk := File{Name: "x/b", Mode: 0o644, Path: path}
	inFS := File{Name: "x/b", Mode: 0o644, Path: "dir/b", FS: fstest.MapFS{"dir/b": {Data: []byte("beta"), Mode: 0o400, ModTime: time.Now()}}}
	first, _ := open(t)
	want := contentOf(t, first, a, b)
	for name, files := range map[string][]File{
		"again": {a, b}, "in another order": {b, a}, "from the disk": {a, onDisk}, "from a file system": {inFS, a},
	} {
		t.Run(name, func(t *testing.T) {
			store, dir := open(t)
			for _, s := range []*Store{first, store} {
				if got := contentOf(t, s, files...); got != want {
					t.Errorf("bundle %s, want %s", got, want)
				}
			}
			if left := ingests(t, dir); len(left) > 0 {
				t.Errorf("unfinished writes: %v", left)
			}
		})
	}
}

func TestOtherFilesAreAnotherBundle(t *testing.T) {
	store, _ := open(t)
	seen := map[digest.Digest]string{}
	for name, files := range map[string][]File{
		"none":          nil,
		"one":           {{Name: "a", Mode: 0o644, Data: []byte("alpha")}},
		"its name":      {{Name: "b", Mode: 0o644, Data: []byte("alpha")}},
		"its mode":      {{Name: "a", Mode: 0o755, Data: []byte("alpha")}},
		"its content":   {{Name: "a", Mode: 0o644, Data: []byte("alphA")}},
		"its size":      {{Name: "a", Mode: 0o644, Data: []byte("alpha\x00")}},
		"one more":      {{Name: "a", Mode: 0o644, Data: []byte("alpha")}, {Name: "b", Mode: 0o644}},
		"split anew":    {{Name: "a", Mode: 0o644, Data: []byte("al")}, {Name: "b", Mode: 0o644, Data: []byte("pha")}},
		"split another": {{Name: "a", Mode: 0o644, Data: []byte("alp")}, {Name: "b", Mode: 0o644, Data: []byte("ha")}},
	} {
		got := contentOf(t, store, files...)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are the same bundle", name, other)
		}
		seen[got] = name
	}
}

func TestTheLayerNamesNoTimeAndNoUser(t *testing.T) {
	store, _ := open(t)
	headers, texts := layer(t, store, contentOf(t, store,
		File{Name: "z", Mode: 0o600, Data: []byte("last")}, File{Name: "dir/a", Mode: 0o755, Data: []byte("first")}))
	if len(headers) != 2 || headers[0].Name != "dir/a" || headers[1].Name != "z" || texts[0] != "first" || texts[1] != "last" {
		t.Fatalf("layer of %v with %q", headers, texts)
	}
	for i, h := range headers {
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Mode != []int64{0o755, 0o600}[i] {
			t.Errorf("%s is of %v, %d:%d %q, mode %o", h.Name, h.ModTime, h.Uid, h.Gid, h.Uname, h.Mode)
		}
	}
}

func TestLazyListsAKeyOnce(t *testing.T) {
	store, dir := open(t)
	calls := 0
	list := func() ([]File, error) {
		calls++
		return []File{{Name: "a", Mode: 0o644, Data: []byte("alpha")}}, nil
	}
	lazy := func(s *Store, key string) digest.Digest {
		state, err := s.Lazy(t.Context(), "test", Source{Key: key, Files: list})
		if err != nil {
			t.Fatal(err)
		}
		return manifestOf(t, state)
	}
	want := lazy(store, "key")
	again, err := Open(dir) // as the next build does
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{store, again} {
		if got := lazy(s, "key"); got != want || calls != 1 {
			t.Errorf("bundle %s after %d listings, want %s after 1", got, calls, want)
		}
	}
	if lazy(store, "another key"); calls != 2 {
		t.Errorf("%d listings for two keys", calls)
	}
	// Every blob that goes missing brings the files back.
	var all []digest.Digest
	if err := store.Blobs.Walk(t.Context(), func(i content.Info) error { all = append(all, i.Digest); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d blobs, want manifest, config and layer", len(all))
	}
	for _, blob := range all {
		before := calls
		if err := store.Blobs.Delete(t.Context(), blob); err != nil {
			t.Fatal(err)
		}
		if got := lazy(store, "key"); got != want || calls != before+1 {
			t.Errorf("without blob %s: bundle %s after %d listings, want %s after 1", blob, got, calls-before, want)
		}
		if _, err := store.Blobs.Info(t.Context(), blob); err != nil {
			t.Errorf("blob %s did not come back: %v", blob, err)
		}
	}
}

func TestABrokenRecordIsWrittenAnew(t *testing.T) {
	store, dir := open(t)
	want := contentOf(t, store, File{Name: "a", Data: []byte("alpha")})
	records, err := os.ReadDir(filepath.Join(dir, "index"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records %v, %v", records, err)
	}
	record := filepath.Join(dir, "index", records[0].Name())
	for _, text := range []string{"", "sha256:12", digest.FromString("elsewhere").String()} {
		if err := os.WriteFile(record, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, store, File{Name: "a", Data: []byte("alpha")}); got != want {
			t.Errorf("after record %q: bundle %s, want %s", text, got, want)
		}
		if data, err := os.ReadFile(record); err != nil || string(data) != want.String() {
			t.Errorf("record %q was left, %v", data, err)
		}
	}
}

// shrinking is a file whose content ends before the size that Stat says.
type shrinking struct{ fstest.MapFS }

func (f shrinking) Open(name string) (fs.File, error) {
	file, err := f.MapFS.Open(name)
	return shrunk{file}, err
}

type shrunk struct{ fs.File }

func (shrunk) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAFailureLeavesNothing(t *testing.T) {
	broken := errors.New("the mirror is down")
	one := func(f File) func() ([]File, error) {
		good := File{Name: "a", Mode: 0o644, Data: make([]byte, 1<<20)}
		return func() ([]File, error) { return []File{good, f}, nil }
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx  context.Context
		list func() ([]File, error)
		want error
	}{
		"the listing fails":     {t.Context(), func() ([]File, error) { return nil, broken }, broken},
		"a file is not there":   {t.Context(), one(File{Name: "b", Path: filepath.Join(t.TempDir(), "none")}), fs.ErrNotExist},
		"a file is a directory": {t.Context(), one(File{Name: "b", Path: t.TempDir()}), nil},
		"a read fails midway":   {t.Context(), one(File{Name: "b", Path: "b", FS: shrinking{fstest.MapFS{"b": {Data: []byte("data")}}}}), io.ErrUnexpectedEOF},
		"it is stopped":         {canceled, one(File{Name: "b"}), context.Canceled},
		"two files of one name": {t.Context(), one(File{Name: "a"}), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store, dir := open(t)
			if _, err := store.Lazy(test.ctx, "test", Source{Key: "key", Files: test.list}); err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if n := blobs(t, store); n > 0 {
				t.Errorf("%d blobs are left", n)
			}
			if left := ingests(t, dir); len(left) > 0 {
				t.Errorf("unfinished writes are left: %v", left)
			}
			if records, err := os.ReadDir(filepath.Join(dir, "index")); err != nil || len(records) > 0 {
				t.Errorf("records are left: %v, %v", records, err)
			}
		})
	}
}

func TestContentNamesTheFileThatFails(t *testing.T) {
	store, _ := open(t)
	_, err := store.Content(t.Context(), "specs", File{Name: "x", Path: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `input "specs": x`) {
		t.Errorf("error %v does not say which file of which input is missing", err)
	}
}
