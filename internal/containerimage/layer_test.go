package containerimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestFramesDecodeToTheStreamAndDoNotDependOnCores(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, frameSize - 1, frameSize, frameSize + 1, 5*frameSize + 12345} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(random.IntN(7))
		}
		var outputs [2]bytes.Buffer
		for i, cores := range []int{1, 7} {
			previous := runtime.GOMAXPROCS(cores)
			w, err := newFrameWriter(&outputs[i])
			if err != nil {
				t.Fatal(err)
			}
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(3*frameSize/2))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			runtime.GOMAXPROCS(previous)
		}
		if !bytes.Equal(outputs[0].Bytes(), outputs[1].Bytes()) {
			t.Errorf("%d bytes: the output depends on the number of cores", size)
		}
		decoder, err := zstd.NewReader(&outputs[0])
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(decoder)
		decoder.Close()
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("%d bytes came back as %d, %v", size, len(back), err)
		}
	}
}

// fullWriter takes a number of bytes and then fails.
type fullWriter struct{ room int }

var errFull = errors.New("full")

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestFrameWriterReturnsTheErrorBelow(t *testing.T) {
	w, err := newFrameWriter(&fullWriter{room: 100})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, frameSize)
	for range 50 {
		if _, err := w.Write(block); err != nil {
			break
		}
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

func TestLayerInputsThatMakeNoSenseAreErrors(t *testing.T) {
	tree := t.TempDir()
	if err := os.Symlink("usr/bin", filepath.Join(tree, "bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		add  Layer
		want string
	}{
		{"a file below a link", Layer{Files: []File{{Content: "x", To: "/bin/x"}}}, "/bin is not a directory"},
		{"a link over a directory", Layer{Links: []Link{{Path: "/usr/bin", Target: "x"}}}, "is a directory in another input"},
		{"no match", Layer{Files: []File{{From: filepath.Join(tree, "*.crt"), To: "/x"}}}, "does not exist"},
		{"a directory for a file", Layer{Files: []File{{From: filepath.Join(tree, "usr"), To: "/x"}}}, "not a regular file"},
		{"no tree", Layer{Trees: []Tree{{From: filepath.Join(tree, "none"), To: "/"}}}, "no such file"},
		{"a program that is none", Layer{Files: []File{{Content: "x", To: "/x"}}, Programs: []string{"/x"}}, "is not a program"},
		{"a program behind a ring of links", Layer{Links: []Link{{Path: "/a", Target: "b"}, {Path: "/b", Target: "/a"}}, Programs: []string{"/a"}}, "too many symbolic links"},
	} {
		c.add.Trees = append([]Tree{{From: tree, To: "/"}}, c.add.Trees...)
		if _, err := collect(c.add); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestLaterInputsWinAndIfAbsentYields(t *testing.T) {
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "f"), []byte("tree"), 0o600); err != nil {
		t.Fatal(err)
	}
	fsys, err := collect(Layer{
		Trees:       []Tree{{From: tree, To: "/etc"}},
		Directories: []Directory{{Path: "/etc", Mode: 0o700}},
		Files:       []File{{Content: "file", To: "/etc/f", Mode: 0o644}},
		Links:       []Link{{Path: "/etc/f", Target: "x", IfAbsent: true}, {Path: "/g", Target: "etc/f", IfAbsent: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := fsys.writeTar(t.Context(), &buf, testEpoch); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname+string(content))
	}
	want := "drwx------ etc/ |-rw-r--r-- etc/f file|Lrwxrwxrwx g etc/f"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}

func TestInvalidConfigurationsAreBadSpecs(t *testing.T) {
	valid := func() Config {
		return Config{Output: "/out", Architecture: "amd64", Layers: []Layer{{Name: "l"}},
			Images: []Image{{Name: "example.com/x:v1", Layers: []string{"l"}}}}
	}
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want  string
		spoil func(*Config)
	}{
		{"absolute path", func(c *Config) { c.Output = "out" }},
		{"architecture is missing", func(c *Config) { c.Architecture = "" }},
		{"names must be unique", func(c *Config) { c.Layers = append(c.Layers, c.Layers[0]) }},
		{`no layer "m"`, func(c *Config) { c.Images[0].Layers = []string{"m"} }},
		{"has no layers", func(c *Config) { c.Images[0].Layers = nil }},
		{"is there twice", func(c *Config) { c.Images = append(c.Images, c.Images[0]) }},
		{"want a name with a tag", func(c *Config) { c.Images[0].Name = "example.com/x" }},
		{"want the full name docker.io/library/x:v1", func(c *Config) { c.Images[0].Name = "x:v1" }},
		{"not an image reference", func(c *Config) { c.Images[0].Name = "X:v1" }},
		{"no digest", func(c *Config) { c.Images[0].Name += "@sha256:" + strings.Repeat("0", 64) }},
		{"want the full name", func(c *Config) { c.Archives = []Archive{{Path: "/a", Name: "a:v1"}} }},
		{"clean path", func(c *Config) { c.Layers[0].Files = []File{{To: "/a/../b"}} }},
		{"clean path", func(c *Config) { c.Layers[0].Trees = []Tree{{To: "b"}} }},
		{"both from and content", func(c *Config) { c.Layers[0].Files = []File{{To: "/b", From: "/x", Content: "x"}} }},
	} {
		cfg := valid()
		c.spoil(&cfg)
		err := cfg.Validate()
		if fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v (%s), want a bad spec with %q", err, fault.KindOf(err), c.want)
		}
	}
}

// FuzzConfigNeverPanics reads any bytes as a configuration.
func FuzzConfigNeverPanics(f *testing.F) {
	f.Add([]byte(`{"output":"/out","architecture":"amd64","layers":[{"name":"l","files":[{"content":"x","to":"/x","mode":"0755"}]}],"images":[{"name":"example.com/x:v1","layers":["l"]}]}`))
	f.Add([]byte(`{"output":"/out","layers":[{"name":"l","links":[{"path":"","target":"x"}],"directories":[{"path":"/","mode":"1777"}]}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var cfg Config
		if json.Unmarshal(data, &cfg) != nil || cfg.Validate() != nil {
			return
		}
		for _, l := range cfg.Layers {
			l.Trees = nil // they would read this machine's files
			_, _ = collect(l)
		}
	})
}
