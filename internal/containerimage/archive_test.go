package containerimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// file, dir and the others are short for entries of a layer.
func file(name, content string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}
func dir(name string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}
func symlink(name, target string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}
func hardlink(name, target string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

type tarEntry struct {
	header  tar.Header
	content string
}

// makeTar writes the entries in the order given.
func makeTar(t testing.TB, entries []tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.header.Size = int64(len(e.content))
		e.header.ModTime = testEpoch
		if err := w.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layout is an OCI layout directory under construction.
type layout struct {
	t   testing.TB
	dir string
}

func (l layout) write(name string, data []byte) {
	l.t.Helper()
	full := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(full, data, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l layout) blob(mediaType string, data []byte) ocispec.Descriptor {
	l.t.Helper()
	d := digest.FromBytes(data)
	l.write("blobs/sha256/"+d.Encoded(), data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (l layout) json(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, data)
}

// image writes an image of gzip layers and returns its manifest.
func (l layout) image(architecture string, layers ...[]byte) ocispec.Descriptor {
	l.t.Helper()
	platform := ocispec.Platform{OS: "linux", Architecture: architecture}
	config := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, layer := range layers {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		w.Write(layer)
		w.Close()
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
		manifest.Layers = append(manifest.Layers, l.blob(ocispec.MediaTypeImageLayerGzip, buf.Bytes()))
	}
	manifest.Config = l.json(ocispec.MediaTypeImageConfig, config)
	desc := l.json(manifest.MediaType, manifest)
	desc.Platform = &platform
	return desc
}

// index completes the layout.
func (l layout) index(name string, manifests ...ocispec.Descriptor) {
	l.t.Helper()
	if name != "" {
		manifests[0].Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	data, _ := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: manifests})
	l.write(ocispec.ImageIndexFile, data)
	l.write(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// layoutOf is a finished layout of one image.
func layoutOf(t testing.TB, name string, layers ...[]byte) string {
	t.Helper()
	l := layout{t, t.TempDir()}
	l.index(name, l.image(runtime.GOARCH, layers...))
	return l.dir
}

// assembleArchive puts one archive into a store and returns the store's output.
func assembleArchive(t *testing.T, a Archive) (string, error) {
	t.Helper()
	output := t.TempDir()
	_, err := Assemble(t.Context(), Config{Output: output, Architecture: runtime.GOARCH, Archives: []Archive{a}},
		testEpoch, func(string) {})
	return output, err
}

// merged mounts the snapshots 1..n of a store as the daemon would, and lists
// the files in it, with the content of regular ones.
func merged(t *testing.T, output string, n int) []string {
	t.Helper()
	at := t.TempDir()
	var lower []string
	for i := n; i > 0; i-- {
		lower = append(lower, filepath.Join(output, storeRoot, snapshotsDir, "snapshots", string(rune('0'+i)), "fs"))
	}
	lower = append(lower, t.TempDir()) // overlayfs wants two
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err == unix.EPERM {
		testenv.Lacks(t, "the right to mount overlayfs")
	} else if err != nil {
		t.Fatalf("mount overlayfs of %q: %v", lower, err)
	}
	defer unix.Unmount(at, 0)
	var found []string
	err := filepath.WalkDir(at, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == at {
			return err
		}
		rel, _ := filepath.Rel(at, name)
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			rel += "=" + string(data)
		}
		found = append(found, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWhiteoutsHideLowerLayersOnly(t *testing.T) {
	testenv.NeedRoot(t)
	base := []tarEntry{
		dir("d"), dir("d/sub"), file("d/a", "0"), file("d/sub/old", "0"), file("f", "0"),
		dir("e"), file("e/x", "0"), symlink("s", "d"),
	}
	for _, c := range []struct {
		name  string
		upper []tarEntry
		want  []string
	}{
		{"a file", []tarEntry{file("d/.wh.a", "")}, []string{"d/", "d/sub/", "d/sub/old=0", "e/", "e/x=0", "f=0", "s"}},
		{"a directory", []tarEntry{file(".wh.d", "")}, []string{"e/", "e/x=0", "f=0", "s"}},
		{"what is not there", []tarEntry{file(".wh.nothing", ""), file("d/.wh.nothing", "")}, []string{"d/", "d/a=0", "d/sub/", "d/sub/old=0", "e/", "e/x=0", "f=0", "s"}},
		{"a directory made anew; marker first", []tarEntry{file(".wh.d", ""), dir("d"), dir("d/sub"), file("d/sub/new", "1")}, []string{"d/", "d/sub/", "d/sub/new=1", "e/", "e/x=0", "f=0", "s"}},
		{"a directory made anew; marker last", []tarEntry{dir("d"), file("d/b", "1"), file(".wh.d", "")}, []string{"d/", "d/b=1", "e/", "e/x=0", "f=0", "s"}},
		{"an opaque directory; marker first", []tarEntry{dir("d"), file("d/.wh..wh..opq", ""), dir("d/sub"), file("d/sub/new", "1")}, []string{"d/", "d/sub/", "d/sub/new=1", "e/", "e/x=0", "f=0", "s"}},
		{"an opaque directory; marker last", []tarEntry{file("d/a", "1"), file("d/.wh..wh..opq", "")}, []string{"d/", "d/a=1", "e/", "e/x=0", "f=0", "s"}},
		{"an opaque root", []tarEntry{file(".wh..wh..opq", ""), file("g", "1")}, []string{"g=1"}},
		{"a file for a directory", []tarEntry{file("d", "1")}, []string{"d=1", "e/", "e/x=0", "f=0", "s"}},
		{"a directory for a link", []tarEntry{dir("s"), file("s/y", "1")}, []string{"d/", "d/a=0", "d/sub/", "d/sub/old=0", "e/", "e/x=0", "f=0", "s/", "s/y=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			output, err := assembleArchive(t, Archive{Path: layoutOf(t, "", makeTar(t, base), makeTar(t, c.upper)), Name: "example.com/x:v1"})
			if err != nil {
				t.Fatal(err)
			}
			if got := merged(t, output, 2); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			for _, line := range listing(t, filepath.Join(output, storeRoot)) {
				if !strings.Contains(line, " 1767323045 ") {
					t.Errorf("another time than the epoch: %s", line)
				}
			}
		})
	}
}

func TestThirdLayerSeesWhatTheSecondHid(t *testing.T) {
	testenv.NeedRoot(t)
	output, err := assembleArchive(t, Archive{Name: "example.com/x:v1", Path: layoutOf(t, "",
		makeTar(t, []tarEntry{dir("d"), file("d/a", "0"), file("d/b", "0")}),
		makeTar(t, []tarEntry{file(".wh.d", "")}),
		makeTar(t, []tarEntry{dir("d"), file("d/c", "2"), file("d/.wh..wh..opq", "")}),
	)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := merged(t, output, 3), []string{"d/", "d/c=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHostileLayersStayInTheirSnapshot(t *testing.T) {
	testenv.NeedRoot(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 30)
	for name, entries := range map[string][]tarEntry{
		"parent path":                  {file(up+victim[1:], "broken")},
		"absolute path":                {file(victim, "broken")},
		"through an absolute link":     {symlink("evil", outside), file("evil/victim", "broken")},
		"through a relative link":      {symlink("evil", up+outside[1:]), file("evil/victim", "broken")},
		"over a link to it":            {symlink("victim", victim), file("victim", "broken")},
		"hard link by parents":         {hardlink("h", up+victim[1:]), file("h", "broken")},
		"hard link by absolute path":   {hardlink("h", victim), file("h", "broken")},
		"hard link through a link":     {symlink("l", victim), hardlink("h", "l"), file("h", "broken")},
		"whiteout by parents":          {file(up+outside[1:]+"/.wh.victim", "")},
		"whiteout through a link":      {symlink("evil", outside), file("evil/.wh.victim", "")},
		"opaque through a link":        {symlink("evil", outside), file("evil/.wh..wh..opq", "")},
		"whiteout of nothing":          {file("d/.wh.", "")},
		"whiteout of the parent":       {file("d/.wh...", "")},
		"whiteout of the directory":    {file("d/.wh..", "")},
		"directory over a link to one": {symlink("evil", outside), dir("evil"), file("evil/victim", "broken")},
	} {
		t.Run(name, func(t *testing.T) {
			// Both a refusal and a harmless file inside are right.
			_, err := assembleArchive(t, Archive{Name: "example.com/x:v1", Path: layoutOf(t, "",
				makeTar(t, []tarEntry{dir("d"), file("d/f", "")}), makeTar(t, entries))})
			t.Logf("error: %v", err)
			if data, err := os.ReadFile(victim); err != nil || string(data) != "untouched" {
				t.Fatalf("a file outside became %q, %v", data, err)
			}
			if left, _ := os.ReadDir(outside); len(left) != 1 {
				t.Fatalf("files outside: %v", left)
			}
		})
	}
}

func TestDefectiveArchivesAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	layer := makeTar(t, []tarEntry{file("f", "1")})
	named := Archive{Name: "example.com/x:v1"}
	for _, c := range []struct {
		name string
		make func(l layout) Archive
		want string
	}{
		{"no archive", func(layout) Archive { return named }, "oci-layout"},
		{"a blob that lies about its digest", func(l layout) Archive {
			l.index("", l.image(runtime.GOARCH, layer))
			blobs, _ := filepath.Glob(filepath.Join(l.dir, "blobs/sha256/*"))
			for _, b := range blobs {
				if data, _ := os.ReadFile(b); bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
					l.write(strings.TrimPrefix(b, l.dir), append(data, 0))
				}
			}
			return named
		}, "not found"},
		{"a layer with another diff ID", func(l layout) Archive {
			desc := l.image(runtime.GOARCH, layer)
			data, _ := os.ReadFile(filepath.Join(l.dir, "blobs/sha256", desc.Digest.Encoded()))
			var m ocispec.Manifest
			json.Unmarshal(data, &m)
			m.Config = l.json(ocispec.MediaTypeImageConfig, ocispec.Image{
				Platform: *desc.Platform,
				RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("x")}},
			})
			l.index("", l.json(m.MediaType, m))
			return named
		}, "wrong diff id"},
		{"only another architecture", func(l layout) Archive {
			l.index("", l.image("s390x", layer))
			return named
		}, "no image for linux/"},
		{"a tag for a name", func(l layout) Archive {
			l.index("v1", l.image(runtime.GOARCH, layer))
			return Archive{}
		}, "the archive calls an image"},
		{"one name for two images", func(l layout) Archive {
			l.index("", l.image(runtime.GOARCH, layer), l.image("s390x", layer))
			return named
		}, "holds 2"},
		{"an image that is another than the one asked for", func(l layout) Archive {
			l.index("", l.image(runtime.GOARCH, layer))
			return Archive{Name: named.Name, Digest: digest.FromString("x").String()}
		}, "not sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
		{"a blob that is a link out of the layout", func(l layout) Archive {
			l.index("", l.image(runtime.GOARCH, layer))
			if err := os.Symlink("/etc/passwd", filepath.Join(l.dir, "blobs/sha256/passwd")); err != nil {
				t.Fatal(err)
			}
			return named
		}, "path escapes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := layout{t, t.TempDir()}
			a := c.make(l)
			a.Path = l.dir
			_, err := assembleArchive(t, a)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestAnArchivesImageTakesThePlaceOfABuiltOne(t *testing.T) {
	testenv.NeedRoot(t)
	l := layout{t, t.TempDir()}
	desc := l.image(runtime.GOARCH, makeTar(t, []tarEntry{file("f", "1")}))
	l.index("", desc)
	cfg := treeConfig(makeTree(t), t.TempDir())
	cfg.Archives = []Archive{{Path: l.dir, Name: cfg.Images[0].Name, Digest: desc.Digest.String()}}
	done := assemble(t, cfg)
	if len(done) != 2 || done[0].Name != cfg.Images[1].Name || done[1].Name != cfg.Images[0].Name || done[1].Manifest.Digest != desc.Digest {
		t.Errorf("got %+v", done)
	}
}

func TestIndexKeepsOnlyTheImageOfTheArchitecture(t *testing.T) {
	testenv.NeedRoot(t)
	l := layout{t, t.TempDir()}
	other := l.image("s390x", makeTar(t, []tarEntry{file("s390x", "1")}))
	own := l.image(runtime.GOARCH, makeTar(t, []tarEntry{file("own", "1")}))
	l.blob("text/plain", []byte("nobody needs this"))
	l.index("example.com/multi:v1", l.json(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{other, own},
	}))
	output, err := assembleArchive(t, Archive{Path: l.dir})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := merged(t, output, 1), []string{"own=1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	blobs, _ := filepath.Glob(filepath.Join(output, storeRoot, contentDir, "blobs/sha256/*"))
	if len(blobs) != 4 { // index, manifest, config, layer
		t.Errorf("%d blobs are in the store, want 4", len(blobs))
	}
}

func TestDockerArchiveIsNamedByItsTags(t *testing.T) {
	testenv.NeedRoot(t)
	layer := makeTar(t, []tarEntry{file("f", "1")})
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest := `[{"Config":"c.json","RepoTags":["app:v1","example.com/app:v2"],"Layers":["l/layer.tar"]}]`
	plain := makeTar(t, []tarEntry{file("c.json", string(config)), file("l/layer.tar", string(layer)), file("manifest.json", manifest)})
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(plain)
	w.Close()
	for name, data := range map[string][]byte{"app.tar": plain, "app.tar.gz": packed.Bytes()} {
		archive := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(archive, data, 0o600); err != nil {
			t.Fatal(err)
		}
		done := assemble(t, Config{Output: t.TempDir(), Architecture: runtime.GOARCH, Archives: []Archive{{Path: archive}}})
		if len(done) != 2 || done[0].Name != "docker.io/library/app:v1" || done[1].Name != "example.com/app:v2" {
			t.Errorf("%s: got %+v", name, done)
		}
	}
}

func TestRealDaemonsExportComesBack(t *testing.T) {
	eachDaemon(t, func(t *testing.T, programs string) {
		first := t.TempDir()
		done := assemble(t, treeConfig(makeTree(t), first))
		d := startDaemon(t, programs, first)
		exported := filepath.Join(t.TempDir(), "images.tar")
		d.ctr(t, "images", "export", exported, done[0].Name, done[1].Name)
		second := t.TempDir()
		again := assemble(t, Config{Output: second, Architecture: runtime.GOARCH, Archives: []Archive{{Path: exported}}})
		if len(again) != 2 || again[0].Manifest.Digest != done[0].Manifest.Digest || again[1].Config != done[1].Config {
			t.Errorf("got %+v, want %+v", again, done)
		}
		checkDaemonSees(t, startDaemon(t, programs, second), again)
	})
}

// FuzzLayerStaysInItsSnapshot applies any bytes as a layer.
func FuzzLayerStaysInItsSnapshot(f *testing.F) {
	f.Add(makeTar(f, []tarEntry{dir("d"), file("d/.wh.a", ""), symlink("s", "/etc"), file("s/x", "1"), file("d/.wh..wh..opq", "")}))
	f.Add(makeTar(f, []tarEntry{file("../../x", ""), hardlink("h", "../x"), file(".wh.d", "")}))
	if os.Geteuid() != 0 {
		testenv.Lacks(f, "root")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		around := t.TempDir()
		upper, lower := filepath.Join(around, "upper"), filepath.Join(around, "lower")
		for _, d := range []string{upper, filepath.Join(lower, "d")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(lower, "d/a"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		before := listing(t, lower)
		c := changes{upper: upper, lowers: []string{lower}, named: map[string]bool{}}
		if err := c.apply(t.Context(), io.LimitReader(bytes.NewReader(data), 1<<20)); err == nil {
			_ = c.settle(testEpoch)
		}
		if !slices.Equal(before, listing(t, lower)) {
			t.Error("the lower layer changed")
		}
		if left, _ := os.ReadDir(around); len(left) != 2 {
			t.Errorf("files beside the snapshot: %v", left)
		}
	})
}
