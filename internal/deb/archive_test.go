package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// build returns a package that dpkg-deb made: one file of random bytes, which
// no compression shrinks, at /usr/share/x/noise.
func build(t testing.TB, compression string) (archive, noise []byte) {
	t.Helper()
	testenv.Need(t, "dpkg-deb")
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	noise = make([]byte, 300_000)
	rand.New(rand.NewSource(1)).Read(noise)
	files := map[string][]byte{
		"DEBIAN/control":    []byte("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: x\n"),
		"usr/share/x/noise": noise,
	}
	for name, data := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "x.deb")
	if text, err := exec.Command("dpkg-deb", "-Z"+compression, "--build", tree, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, text)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return archive, noise
}

// extract unpacks an archive into a new directory.
func extract(t testing.TB, archive []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	data, err := DataTar(t.Context(), bytes.NewReader(archive))
	if err != nil {
		return dir, err
	}
	err = Unpack(t.Context(), root, data, Filter{}, &DirectoryTimes{}, nil)
	if cerr := data.Close(); err == nil {
		err = cerr
	}
	return dir, err
}

var compressions = []string{"none", "gzip", "xz", "zstd"}

func TestDataTarReadsWhatDpkgDebWrites(t *testing.T) {
	for _, compression := range compressions {
		t.Run(compression, func(t *testing.T) {
			archive, noise := build(t, compression)
			dir, err := extract(t, archive)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, "usr/share/x/noise"))
			if err != nil || !bytes.Equal(got, noise) {
				t.Errorf("the file differs from the packaged one (%v)", err)
			}
		})
	}
}

func TestXzWithoutTheProgram(t *testing.T) {
	archive, noise := build(t, "xz")
	t.Setenv("PATH", t.TempDir())
	dir, err := extract(t, archive)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "usr/share/x/noise")); err != nil || !bytes.Equal(got, noise) {
		t.Errorf("the file differs from the packaged one (%v)", err)
	}
	if _, err := extract(t, archive[:len(archive)-200]); err == nil {
		t.Error("a truncated archive was taken for a whole one")
	}
}

// An archive that ends early is an error wherever it ends, even where the tar
// inside seems whole.
func TestDataTarRefusesATruncatedArchive(t *testing.T) {
	for _, compression := range compressions {
		archive, _ := build(t, compression)
		data := bytes.Index(archive, []byte("data.tar"))
		block := data + arHeaderSize + 4*512 // between two entries of a tar that is not compressed
		for _, size := range []int{0, 4, len(arMagic), data - 1, data + 30, data + arHeaderSize, block, len(archive) / 2, len(archive) - 1024, len(archive) - 8, len(archive) - 2} {
			t.Run(fmt.Sprintf("%s at %d of %d", compression, size, len(archive)), func(t *testing.T) {
				if _, err := extract(t, archive[:size]); err == nil {
					t.Error("taken for a whole one")
				}
			})
		}
	}
}

// The checksum at the end of a compressed stream is read, though tar ends before it.
func TestDataTarRefusesACorruptTail(t *testing.T) {
	for _, test := range []struct {
		compression string
		fromEnd     int
	}{{"gzip", 6}, {"xz", 6}, {"xz", 20}, {"zstd", 2}} {
		t.Run(fmt.Sprintf("%s %d bytes from the end", test.compression, test.fromEnd), func(t *testing.T) {
			archive, _ := build(t, test.compression)
			archive = withoutPadding(t, archive)
			archive[len(archive)-test.fromEnd] ^= 0x55
			if _, err := extract(t, archive); err == nil {
				t.Error("taken for a whole one")
			}
		})
	}
}

// withoutPadding cuts the archive at the end of its last member.
func withoutPadding(t *testing.T, archive []byte) []byte {
	t.Helper()
	data := bytes.Index(archive, []byte("data.tar"))
	var size int
	if _, err := fmt.Sscan(string(archive[data+arSizeOffset:data+arSizeOffset+arSizeLength]), &size); err != nil {
		t.Fatal(err)
	}
	return archive[:data+arHeaderSize+size]
}

// ar returns an archive of members, each a name and its content.
func ar(members ...string) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for i := 0; i < len(members); i += 2 {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", members[i], 0, 0, 0, "100644", len(members[i+1]))
		b.WriteString(members[i+1])
		if b.Len()%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func TestDataTarRefuses(t *testing.T) {
	sized := func(size string) []byte {
		archive := ar("data.tar", "x")
		copy(archive[len(arMagic)+arSizeOffset:], fmt.Sprintf("%-10s", size))
		return archive
	}
	tests := map[string]struct {
		archive []byte
		want    string
	}{
		"another format":            {[]byte("PK\x03\x04 a zip file"), "not a .deb archive"},
		"no data":                   {ar("debian-binary", "2.0\n"), "without data.tar"},
		"an unknown compression":    {ar("data.tar.br", "x"), "unknown compression"},
		"no size":                   {sized(""), "no valid size"},
		"a negative size":           {sized("-5"), "no valid size"},
		"a member over the end":     {append([]byte(arMagic), []byte(fmt.Sprintf("%-48s%-10d`\n", "debian-binary", 1<<40))...), "truncated"},
		"data that is not gzip":     {ar("data.tar.gz", "this is certainly not gzip"), "gzip"},
		"an empty gzip stream":      {ar("data.tar.gz", ""), "EOF"},
		"a size of the largest int": {append([]byte(arMagic), []byte(fmt.Sprintf("%-48s%-10s`\n", "debian-binary", "9223372036"))...), "truncated"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := DataTar(t.Context(), bytes.NewReader(test.archive))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestControlIsThePackagesStanza(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			archive, _ := build(t, compression)
			got, err := Control(t.Context(), bytes.NewReader(archive))
			if err != nil || !strings.HasPrefix(string(got), "Package: x\nVersion: 1\n") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestControlRefuses(t *testing.T) {
	file := func(name string, size int64) string { // its header is enough
		var text bytes.Buffer
		if err := tar.NewWriter(&text).WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size}); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	for name, test := range map[string]struct {
		archive []byte
		want    string
	}{
		"another format":      {[]byte("PK\x03\x04 a zip file"), "not a .deb archive"},
		"no control.tar":      {ar("debian-binary", "2.0\n", "data.tar", "x"), "without control.tar"},
		"no control file":     {ar("control.tar", file("./md5sums", 0)), "without a control file"},
		"one in a folder":     {ar("control.tar", file("./a/control", 0)), "without a control file"},
		"more than it can be": {ar("control.tar", file("./control", maxControl+1)), "bytes, more than"},
		"no tar":              {ar("control.tar", strings.Repeat("x", 600)), "control.tar"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Control(t.Context(), bytes.NewReader(test.archive)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q, error %v, want one with %q", got, err, test.want)
			}
		})
	}
}

func TestDataTarTakesMembersInAnyForm(t *testing.T) {
	for name, archive := range map[string][]byte{
		"GNU's slash":            ar("debian-binary/", "2.0\n", "data.tar/", "payload"),
		"odd members are padded": ar("debian-binary", "2.0", "_gpgorigin", "abc", "data.tar", "payload"),
		"something after data":   ar("data.tar", "payload", "_gpgorigin", "sig"),
	} {
		t.Run(name, func(t *testing.T) {
			data, err := DataTar(t.Context(), bytes.NewReader(archive))
			if err != nil {
				t.Fatal(err)
			}
			defer data.Close()
			if got, err := io.ReadAll(data); err != nil || string(got) != "payload" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestCloseEndsXzBeforeTheEnd(t *testing.T) {
	testenv.Need(t, "xz")
	archive, _ := build(t, "xz")
	data, err := DataTar(t.Context(), bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(data, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	xz := data.(*process).cmd
	if err := data.Close(); err != nil {
		t.Errorf("closing early: %v", err)
	}
	if xz.ProcessState == nil {
		t.Errorf("xz (process %d) was not waited for", xz.Process.Pid)
	}
	if err := data.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestXzEndsWithItsContext(t *testing.T) {
	testenv.Need(t, "xz")
	archive, _ := build(t, "xz")
	ctx, cancel := context.WithCancel(t.Context())
	data, err := DataTar(ctx, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if _, err := io.ReadFull(data, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	cancel()
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, data); ended <- err }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an aborted stream was taken for a whole one")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("xz outlives its context")
	}
}

func FuzzDataTar(f *testing.F) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(tarOf(f, tar.Header{Name: "./a", Typeflag: tar.TypeReg, Mode: 0o644}))
	z.Close()
	f.Add(ar("debian-binary", "2.0\n", "control.tar", "xyz", "data.tar.gz", packed.String()))
	f.Add(ar("data.tar", "payload"))
	f.Add(ar("control.tar", string(tarOf(f, tar.Header{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644}))))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if bytes.Contains(archive, []byte(".xz")) || bytes.Contains(archive, []byte(".zst")) {
			return // not ours to fuzz
		}
		if control, err := Control(t.Context(), bytes.NewReader(archive)); err == nil && len(control) > maxControl {
			t.Errorf("a control file of %d bytes", len(control))
		}
		data, err := DataTar(t.Context(), bytes.NewReader(archive))
		if err != nil {
			return
		}
		_, failed := io.Copy(io.Discard, io.LimitReader(data, 1<<20))
		if err := data.Close(); err != nil && failed == nil {
			t.Errorf("closing after a good read: %v", err)
		}
	})
}
