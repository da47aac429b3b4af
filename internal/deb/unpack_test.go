package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// packed is when every file of the test's archives was made.
var packed = time.Unix(1_700_000_000, 0)

// tarOf returns an archive of the entries; a file's content is its own name.
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	return tarAt(t, packed, entries...)
}

// tarAt is tarOf for files of another time.
func tarAt(t testing.TB, when time.Time, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.ModTime = when
		if h.Uid == 0 && h.Gid == 0 {
			h.Uid, h.Gid = os.Getuid(), os.Getgid()
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
func dir(name string) tar.Header  { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
}
func hardlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}
}

// cell is a root to unpack into with a file of the host's beside it.
func cell(t testing.TB) (root *os.Root, inside, secret string) {
	t.Helper()
	top := t.TempDir()
	inside, secret = filepath.Join(top, "root"), filepath.Join(top, "outside", "secret")
	for _, d := range []string{inside, filepath.Dir(secret)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(secret, []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, inside, secret
}

// outside fails the test unless all of the host that it sees is as cell left it.
func outside(t testing.TB, secret string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(secret))
	if err != nil || len(entries) != 1 {
		t.Errorf("outside the root: %v, %v", entries, err)
	}
	info, err := os.Stat(secret)
	if err != nil || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Errorf("the host's file changed: %v, %v", info, err)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "host" {
		t.Errorf("the host's file holds %q, %v", data, err)
	}
	top, err := os.ReadDir(filepath.Dir(filepath.Dir(secret)))
	if err != nil || len(top) != 2 {
		t.Errorf("beside the root: %v, %v", top, err)
	}
}

func TestUnpackNeverLeavesTheRoot(t *testing.T) {
	_, _, elsewhere := cell(t)
	tests := map[string][]tar.Header{
		"a path upwards":                    {file("../outside/new")},
		"a path upwards from below":         {file("a/../../outside/new")},
		"a directory upwards":               {dir("../outside/new")},
		"two slashes":                       {file("//outside")},
		"a link upwards":                    {symlink("../outside/new", "x")},
		"through a relative link":           {symlink("out", "../outside"), file("out/new")},
		"over a file through a link":        {symlink("out", "../outside"), file("out/secret")},
		"through an absolute link":          {symlink("out", filepath.Dir(elsewhere)), file("out/new")},
		"through a link of links":           {dir("a"), symlink("a/up", ".."), symlink("out", "a/up/../outside"), file("out/new")},
		"a directory through a link":        {symlink("out", "../outside"), dir("out/new")},
		"a directory's mode through a link": {symlink("out", "../outside"), tar.Header{Name: "out", Typeflag: tar.TypeDir, Mode: 0o700}},
		"a hard link to the host's":         {hardlink("mine", "../outside/secret")},
		"a hard link through a link":        {symlink("out", "../outside"), hardlink("mine", "out/secret")},
		"a hard link outwards":              {file("mine"), hardlink("../outside/new", "mine")},
		"the root as a file":                {file(".")},
		"a hard link to the root":           {hardlink("mine", ".")},
		"a character device":                {{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}},
		"a block device":                    {{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o666}},
		"a pipe":                            {{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o666}},
		"a file where a directory is":       {file("a/b"), file("a")},
		"a directory where a file is":       {file("a"), dir("a")},
		"a file below a file":               {file("a"), file("a/b")},
		"an empty directory, then a file":   {dir("a"), file("a")},
		"a hard link to what is not there":  {hardlink("a", "b")},
		"a hard link to itself":             {file("a"), hardlink("a", "a")},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			root, _, secret := cell(t)
			if err := Unpack(t.Context(), root, bytes.NewReader(tarOf(t, entries...)), Filter{}, &DirectoryTimes{}, nil); err == nil {
				t.Error("no error")
			}
			outside(t, secret)
		})
	}
	outside(t, elsewhere)
}

// What stands at a link's own name is replaced, not what it points to.
func TestUnpackReplacesALinkNotItsTarget(t *testing.T) {
	root, inside, secret := cell(t)
	archive := tarOf(t, symlink("a", "../outside/secret"), file("a"), symlink("b", "../outside/secret"), hardlink("c", "b"))
	if err := Unpack(t.Context(), root, bytes.NewReader(archive), Filter{}, &DirectoryTimes{}, nil); err != nil {
		t.Fatal(err)
	}
	outside(t, secret)
	if info, err := os.Lstat(filepath.Join(inside, "a")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("a is %v, %v", info, err)
	}
	// A link may point anywhere, as long as nobody follows it; so may a hard link to one.
	if target, err := os.Readlink(filepath.Join(inside, "c")); err != nil || target != "../outside/secret" {
		t.Errorf("c -> %q, %v", target, err)
	}
}

func TestUnpackLaysFilesOut(t *testing.T) {
	tests := map[string]struct {
		before, entries []tar.Header
		want            map[string]string // path: content, or "-> target", or "/" for a directory
	}{
		"parents that no entry names":    {nil, []tar.Header{file("./usr/lib/x")}, map[string]string{"usr": "/", "usr/lib/x": "./usr/lib/x"}},
		"an absolute name is the tree's": {nil, []tar.Header{file("/etc/x")}, map[string]string{"etc/x": "/etc/x"}},
		"a merged /usr is followed": {
			[]tar.Header{dir("usr/lib"), symlink("lib", "usr/lib")}, []tar.Header{dir("./"), dir("./lib/"), file("./lib/ld.so"), symlink("./lib/l", "ld.so")},
			map[string]string{"lib": "-> usr/lib", "usr/lib/ld.so": "./lib/ld.so", "usr/lib/l": "-> ld.so"},
		},
		"a link that is there stays": {
			[]tar.Header{file("usr/lib/x"), symlink("lib", "usr/lib")}, []tar.Header{symlink("lib", "usr/lib"), file("lib/y")},
			map[string]string{"lib": "-> usr/lib", "usr/lib/x": "usr/lib/x", "usr/lib/y": "lib/y"},
		},
		"a directory outlasts a link": {
			[]tar.Header{file("doc/x")}, []tar.Header{symlink("doc", "other")},
			map[string]string{"doc": "/", "doc/x": "doc/x"},
		},
		"an empty directory does, too": {[]tar.Header{dir("doc")}, []tar.Header{symlink("doc", "other")}, map[string]string{"doc": "/"}},
		"a file replaces a file":       {[]tar.Header{file("./a")}, []tar.Header{file("a")}, map[string]string{"a": "a"}},
		"a file replaces a link":       {[]tar.Header{file("b"), symlink("a", "b")}, []tar.Header{file("a")}, map[string]string{"a": "a", "b": "b"}},
		"a link replaces a file":       {[]tar.Header{file("a")}, []tar.Header{symlink("a", "b")}, map[string]string{"a": "-> b"}},
		"a link replaces another":      {[]tar.Header{symlink("a", "b")}, []tar.Header{symlink("a", "c")}, map[string]string{"a": "-> c"}},
		"a hard link":                  {nil, []tar.Header{file("./a"), hardlink("./b", "./a")}, map[string]string{"b": "./a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root, inside, secret := cell(t)
			for _, entries := range [][]tar.Header{test.before, test.entries} {
				if err := Unpack(t.Context(), root, bytes.NewReader(tarOf(t, entries...)), Filter{}, &DirectoryTimes{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			outside(t, secret)
			for name, want := range test.want {
				if got := look(t, filepath.Join(inside, name)); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func look(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err.Error()
	case info.IsDir():
		return "/"
	case info.Mode()&fs.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		return "-> " + target
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestUnpackKeepsOwnersModesAndTimes(t *testing.T) {
	testenv.NeedRoot(t)
	root, inside, _ := cell(t)
	archive := tarOf(t,
		tar.Header{Name: "var/mail/", Typeflag: tar.TypeDir, Mode: 0o2775, Uid: 0, Gid: 8},
		tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 1, Gid: 1},
		tar.Header{Name: "usr/bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 5, Gid: 6},
		tar.Header{Name: "usr/bin/crontab", Typeflag: tar.TypeReg, Mode: 0o2711, Uid: 5, Gid: 101},
		tar.Header{Name: "etc/secret", Typeflag: tar.TypeReg, Mode: 0, Uid: 5, Gid: 42},
		tar.Header{Name: "usr/bin/link", Typeflag: tar.TypeSymlink, Linkname: "su", Mode: 0o777, Uid: 7, Gid: 8},
		tar.Header{Name: "usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "usr/bin/su", Mode: 0o4755, Uid: 5, Gid: 6},
	)
	var times DirectoryTimes
	if err := Unpack(t.Context(), root, bytes.NewReader(archive), Filter{}, &times, nil); err != nil {
		t.Fatal(err)
	}
	if err := times.Set(root, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		mode     fs.FileMode
		uid, gid uint32
	}{
		"var/mail":        {fs.ModeDir | fs.ModeSetgid | 0o775, 0, 8},
		"tmp":             {fs.ModeDir | fs.ModeSticky | 0o777, 1, 1},
		"usr/bin/su":      {fs.ModeSetuid | 0o755, 5, 6},
		"usr/bin/hard":    {fs.ModeSetuid | 0o755, 5, 6},
		"usr/bin/crontab": {fs.ModeSetgid | 0o711, 5, 101},
		"etc/secret":      {0, 5, 42},
		"usr/bin/link":    {fs.ModeSymlink | 0o777, 7, 8},
	} {
		info, err := os.Lstat(filepath.Join(inside, name))
		if err != nil {
			t.Error(err)
			continue
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode() != want.mode || stat.Uid != want.uid || stat.Gid != want.gid {
			t.Errorf("%s is %v of %d:%d, want %v of %d:%d", name, info.Mode(), stat.Uid, stat.Gid, want.mode, want.uid, want.gid)
		}
		if !info.ModTime().Equal(packed) {
			t.Errorf("%s is of %v, want %v", name, info.ModTime(), packed)
		}
	}
}

func TestUnpackStopsWithItsContext(t *testing.T) {
	root, inside, _ := cell(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Unpack(ctx, root, bytes.NewReader(tarOf(t, file("a"))), Filter{}, &DirectoryTimes{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	if entries, err := os.ReadDir(inside); err != nil || len(entries) > 0 {
		t.Errorf("wrote %v, %v", entries, err)
	}
}

func TestUnpackNamesTheEntryThatFails(t *testing.T) {
	root, _, _ := cell(t)
	err := Unpack(t.Context(), root, bytes.NewReader(tarOf(t, file("./ok"), file("../outside/evil"))), Filter{}, &DirectoryTimes{}, nil)
	if err == nil || !strings.Contains(err.Error(), "../outside/evil") {
		t.Errorf("error %v does not name the entry", err)
	}
}

// Packages that share directories are unpacked in any order, at once: times must
// not depend on it, nor on the clock.
func TestTimesDoNotDependOnTheOrderOfPackages(t *testing.T) {
	older := tarOf(t, dir("./"), dir("./usr/"), dir("./usr/share/"), file("./usr/share/a"), symlink("./usr/l", "share"))
	newer := tarAt(t, packed.Add(time.Hour), dir("./usr/"), dir("./usr/share/"), file("./usr/share/b"), file("./implied/by/a/file"))
	var seen []string
	for _, order := range [][][]byte{{older, newer}, {newer, older}} {
		root, inside, _ := cell(t)
		var times DirectoryTimes
		for _, archive := range order {
			if err := Unpack(t.Context(), root, bytes.NewReader(archive), Filter{}, &times, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := times.Set(root, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		if err := filepath.WalkDir(inside, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name, err := filepath.Rel(inside, path)
			fmt.Fprintln(&all, name, info.ModTime().Unix())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, all.String())
	}
	want := ". 1700000000\nimplied 0\nimplied/by 0\nimplied/by/a 0\nimplied/by/a/file 1700003600\nusr 1700003600\nusr/l 1700000000\n" +
		"usr/share 1700003600\nusr/share/a 1700000000\nusr/share/b 1700003600\n"
	if seen[0] != want || seen[1] != want {
		t.Errorf("%s\n%s\nwant %s", seen[0], seen[1], want)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x"), hardlink("y", "lib/x")))
	f.Add(tarOf(f, symlink("out", "../outside"), file("out/new")))
	f.Add(tarOf(f, file("../outside/new"), hardlink("a", "../outside/secret")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if len(archive) > 64<<10 {
			return
		}
		root, _, secret := cell(t)
		_ = Unpack(t.Context(), root, bytes.NewReader(archive), Filter{}, &DirectoryTimes{}, nil) // what is refused does not matter, what gets out does
		outside(t, secret)
	})
}
