package containerimage

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// oddLayers are what layers of real images have and few tests: a hard link to a
// file of a lower layer, a file that takes a directory's place and the other way
// round, whiteouts of files, of directories and of what is not there, opaque
// directories, devices, a fifo, set-ID modes, owners, extended attributes.
func oddLayers() [][]tarEntry {
	owned := func(e tarEntry, uid, gid int, mode int64) tarEntry {
		e.header.Uid, e.header.Gid, e.header.Mode = uid, gid, mode
		return e
	}
	xattr := func(e tarEntry, name, value string) tarEntry {
		e.header.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
		return e
	}
	device := tarEntry{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""}
	fifo := tarEntry{tar.Header{Typeflag: tar.TypeFifo, Name: "run/fifo", Mode: 0o600}, ""}
	return [][]tarEntry{
		{
			dir("bin"), owned(file("bin/su", "su"), 0, 0, 0o4755), hardlink("bin/zu", "bin/su"), file("bin/other", "other"),
			dir("opaque"), file("opaque/a", "a"), file("opaque/b", "b"), dir("gone"), file("gone/x", "x"), file("kept", "kept"),
			dir("becomes-file"), file("becomes-file/y", "y"), file("becomes-directory", "z"), dir("dev"), device, dir("run"), fifo,
		},
		{
			dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/c", "c"), file(".wh.gone", ""), file("bin/.wh.other", ""),
			file("becomes-file", "now a file"), file(".wh.becomes-directory", ""), dir("becomes-directory"), file("becomes-directory/z", "z"),
			symlink("link", "bin/su"),
		},
		{
			dir("etc"), owned(file("etc/secret", "secret"), 12, 34, 0o640), xattr(file("etc/noted", "noted"), "user.note", "yes"),
			xattr(file("bin/ping", "ping"), "security.capability", string(fileCapabilities(13))), file("opaque/a", "again"),
			owned(dir("tmp"), 0, 0, 0o1777),
		},
	}
}

// oddImage is an OCI layout of an image with these layers, packed with gzip and
// the last one with zstd, and the same in a tar archive.
func oddImage(t *testing.T, name string) (dir, archive string) {
	t.Helper()
	layers := oddLayers()
	l := layout{t, t.TempDir()}
	var plain [][]byte
	for _, entries := range layers {
		plain = append(plain, makeTar(t, entries))
	}
	manifest := l.image(runtime.GOARCH, plain...)
	l.recompress(&manifest, plain[len(plain)-1])
	manifest.Annotations = map[string]string{"io.containerd.image.name": name}
	l.index("", manifest)
	archive = filepath.Join(t.TempDir(), "image.tar")
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return l.dir, archive
}

// recompress packs the last layer of an image with zstd.
func (l layout) recompress(desc *ocispec.Descriptor, layer []byte) {
	l.t.Helper()
	var manifest ocispec.Manifest
	data, err := os.ReadFile(filepath.Join(l.dir, "blobs/sha256", desc.Digest.Encoded()))
	if err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		l.t.Fatal(err)
	}
	manifest.Layers[len(manifest.Layers)-1] = l.blob(ocispec.MediaTypeImageLayerZstd, encoder.EncodeAll(layer, nil))
	platform := desc.Platform
	*desc = l.json(manifest.MediaType, manifest)
	desc.Platform = platform
}

// snapshotFiles lists what the snapshots of a store hold, without times, by
// their numbers. The daemon marks an opaque directory with an attribute that a
// step may not set (trusted.overlay.opaque); ours has a whiteout for each file
// that it hides. Both are left out: what a container sees is compared apart.
func snapshotFiles(t *testing.T, output string) []string {
	t.Helper()
	root := filepath.Join(output, storeRoot, snapshotsDir, "snapshots")
	var lines []string
	for _, line := range listing(t, root) {
		fields := strings.SplitN(line, " ", 6) // name mode owner device time detail
		if len(fields) == 6 && !strings.HasSuffix(fields[0], "/work") && fields[0] != "." {
			if strings.HasPrefix(fields[0], "2/fs/opaque/") && fields[1] == "20000" {
				continue
			}
			lines = append(lines, strings.Join(slices.Concat(fields[:4], fields[5:]), " "))
		}
	}
	return lines
}

// records are the values of the namespace's buckets, by their paths: blobs with
// their labels, and snapshots; times and the names of images are left out.
func records(t *testing.T, output string) map[string]string {
	t.Helper()
	db, err := bolt.Open(filepath.Join(output, storeRoot, metadataDir, "meta.db"), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // only read
	out := map[string]string{}
	var walk func(path string, b *bolt.Bucket) error
	walk = func(path string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			name := path + "/" + string(k)
			switch {
			case v == nil:
				return walk(name, b.Bucket(k))
			// Newer daemons label snapshots, older ones don't; nothing depends on it.
			case string(k) != "createdat" && string(k) != "updatedat" && !strings.Contains(name, "/labels/containerd.io/snapshot"):
				out[name] = printableValue(v)
			}
			return nil
		})
	}
	err = db.View(func(tx *bolt.Tx) error {
		ns := tx.Bucket([]byte("v1")).Bucket([]byte(namespace))
		for _, bucket := range []string{"content", "snapshots"} {
			if b := ns.Bucket([]byte(bucket)); b != nil {
				if err := walk(bucket, b); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func printableValue(v []byte) string {
	if regexp.MustCompile(`^[ -~]*$`).Match(v) {
		return string(v)
	}
	return hex.EncodeToString(v)
}

// The daemon imports an image into an empty store; ours, written without it,
// holds the same files and the same records.
func TestTheStoreIsWhatARealDaemonMakesOfTheSameImage(t *testing.T) {
	eachDaemon(t, func(t *testing.T, programs string) {
		const name = "example.com/odd:v1"
		dir, archive := oddImage(t, name)
		ours, theirs := t.TempDir(), t.TempDir()
		done := assemble(t, Config{Output: ours, Architecture: runtime.GOARCH, Archives: []Archive{{Path: dir, Name: name}}})

		d := startDaemon(t, programs, theirs)
		d.ctr(t, "images", "import", "--digests=false", archive)
		d.ctr(t, "leases", "create", "--id", "collect") // its end collects garbage: the archive's index
		d.ctr(t, "leases", "rm", "--sync", "collect")
		usage := snapshotUsage(d.ctr(t, "snapshots", "usage", "-b"))
		d.stop(t)

		if got, want := snapshotFiles(t, ours), snapshotFiles(t, theirs); !slices.Equal(got, want) {
			t.Errorf("the snapshots differ:\n%s", different(want, got))
		}
		if got, want := merged(t, ours, 3), merged(t, theirs, 3); !slices.Equal(got, want) {
			t.Errorf("a container sees other files:\n%s", different(want, got))
		}
		if got, want := records(t, ours), records(t, theirs); !maps.Equal(got, want) {
			t.Errorf("the records differ:\n%s", different(lines(want), lines(got)))
		}
		judge := startDaemon(t, programs, ours)
		checkDaemonSees(t, judge, done)
		got := snapshotUsage(judge.ctr(t, "snapshots", "usage", "-b"))
		if others := strings.Count(different(usage, got), "ours:"); len(got) != len(usage) || others > 1 {
			t.Errorf("snapshots usage says more than the snapshot with whiteouts differs:\n%s", different(usage, got))
		}
	})
}

// snapshotUsage are the lines of ctr snapshots usage, sorted.
func snapshotUsage(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(out)
	return out
}

func lines(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+" = "+m[k])
	}
	return out
}

// different lists the lines that only one side has.
func different(want, got []string) string {
	var b strings.Builder
	for _, line := range want {
		if !slices.Contains(got, line) {
			fmt.Fprintln(&b, "daemon:", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			fmt.Fprintln(&b, "ours:  ", line)
		}
	}
	return b.String()
}
