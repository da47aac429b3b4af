package lock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
)

// example is a small lock with something in every field.
func example() *Lock {
	date := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	set := func(name string) PackageSet {
		return PackageSet{
			Archives: []Archive{{URL: "http://deb.debian.org/debian", Suite: "bookworm", Release: strings.Repeat("ab", 32), Date: date, SignedBy: "4CB50190207B4758A3F73A796ED0E7B82643E131"}},
			Packages: []Package{{Name: name, Version: "1:2.3~rc1-4+deb12u1", Architecture: "amd64", URL: "http://deb.debian.org/debian/pool/x.deb", SHA256: strings.Repeat("0f", 32), Size: 1 << 33, Ground: true}},
		}
	}
	return &Lock{
		APIVersion: APIVersion, Kind: Kind, Image: "debian-12", Inputs: v1alpha1.Inputs{OS: "sha256:" + strings.Repeat("1", 64), Packages: "sha256:2", ContainerImages: "sha256:3", Kubernetes: "sha256:4"}, Architecture: "amd64",
		Epoch: date, Tools: set("grub-common"), Compiler: set("gcc"), OS: set("libc6"), Packages: set("jq"),
		Kubernetes: Kubernetes{
			Version:   "v1.34.0",
			Toolchain: GoModule{Path: "golang.org/toolchain", Version: "v0.0.1-go1.24.6.linux-amd64", Sum: "h1:abc="},
			Components: []GoComponent{{
				Name: "etcd", Module: "go.etcd.io/etcd/server/v3", Version: "v3.6.4", Packages: []string{"go.etcd.io/etcd/server/v3"},
				GoMod: "module nodesmith.dev/build\n\ngo 1.24.0\n\nrequire go.etcd.io/etcd/server/v3 v3.6.4\n",
				GoSum: []string{"a v1 h1:x=", "a v1/go.mod h1:y="},
			}},
			Images:    []ContainerImage{{Name: "registry.k8s.io/etcd:3.6.4-0", Component: "etcd"}},
			ImageBase: set("iptables"),
		},
	}
}

func text(t *testing.T, l *Lock) string {
	t.Helper()
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestALockIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "x.lock.yaml")
	for name, l := range map[string]*Lock{"every field": example(), "few fields": {APIVersion: APIVersion, Kind: Kind, Image: "x"}} {
		t.Run(name, func(t *testing.T) {
			if err := l.Write(path); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, l) {
				t.Errorf("got %+v\nwant %+v", got, l)
			}
			if again := text(t, got); again != text(t, l) || !strings.HasPrefix(again, header) {
				t.Errorf("the same lock has other bytes:\n%s", again)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	good := text(t, example())
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the example has no %q", old)
		}
		return strings.ReplaceAll(good, old, with)
	}
	digest := strings.Repeat("0f", 32)
	tests := map[string]struct{ text, want string }{
		"an unknown field":       {good + "mirror: http://x\n", `unknown field "mirror"`},
		"one further down":       {replace("- component: etcd\n", "- mirror: x\n    component: etcd\n"), `unknown field`},
		"a field twice":          {good + "image: other\n", `"image" already set`},
		"another kind":           {replace("kind: Lock", "kind: NodeImage"), `kind "NodeImage"`},
		"another version":        {replace("v1alpha1", "v9"), `apiVersion "nodesmith.dev/v9"`},
		"nothing":                {"", `kind ""`},
		"text":                   {"no lock\n", "is not a lock"},
		"a time that is none":    {replace("epoch: \"2026-03-01T09:00:00Z\"", "epoch: yesterday"), "is not a lock"},
		"a size that is text":    {replace("size: 8589934592", "size: big"), "is not a lock"},
		"a package of no digest": {replace(digest, `""`), "not a SHA-256 digest"},
		"a digest cut short":     {replace(digest, digest[:12]), "not a SHA-256 digest"},
		"a path for a digest":    {replace(digest, strings.Repeat("../", 21)+"x"), "not a SHA-256 digest"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.lock.yaml")
			if err := os.WriteFile(path, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) || fault.RemedyOf(err) == "" {
				t.Errorf("%v error %v, want a bad spec that names the file and says %q", fault.KindOf(err), err, test.want)
			}
		})
	}
}

// Digests are checked in every set of packages.
func TestReadChecksEverySet(t *testing.T) {
	for name, spoil := range map[string]func(*Lock) *PackageSet{
		"tools": func(l *Lock) *PackageSet { return &l.Tools }, "compiler": func(l *Lock) *PackageSet { return &l.Compiler }, "os": func(l *Lock) *PackageSet { return &l.OS },
		"packages": func(l *Lock) *PackageSet { return &l.Packages }, "imageBase": func(l *Lock) *PackageSet { return &l.Kubernetes.ImageBase },
	} {
		l := example()
		spoil(l).Packages[0].SHA256 = "x"
		path := filepath.Join(t.TempDir(), "x.lock.yaml")
		if err := l.Write(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), spoil(l).Packages[0].Name) {
			t.Errorf("%s: error %v does not name the package", name, err)
		}
	}
}

func TestReadSaysThatAFileIsMissing(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

func TestWriteIsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.lock.yaml")
	if err := example().Write(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode() != 0o644 {
		t.Errorf("mode %v", before.Mode())
	}
	if err := example().Write(path); err != nil {
		t.Fatal(err)
	}
	if same, err := os.Stat(path); err != nil || !os.SameFile(before, same) || !same.ModTime().Equal(before.ModTime()) {
		t.Errorf("an identical file was written anew (%v)", err)
	}
	held, err := os.Open(path) // someone reads it meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	other := example()
	other.Image = "other"
	if err := other.Write(path); err != nil {
		t.Fatal(err)
	}
	if now, err := os.Stat(path); err != nil || os.SameFile(before, now) {
		t.Errorf("the file was changed in place (%v)", err)
	}
	if err := example().Write(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("wrote below a file")
	}
	full := filepath.Join(dir, "a-directory")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := example().Write(full); err == nil {
		t.Error("wrote over a directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v; want the lock and the directory", entries, err)
	}
}

func TestModulesCountsCodeOnce(t *testing.T) {
	k := Kubernetes{Components: []GoComponent{
		{GoSum: []string{"a v1.0.0 h1:x=", "a v1.0.0/go.mod h1:y=", "b v1.0.0/go.mod h1:z="}}, // b's code is not read
		{GoSum: []string{"a v1.0.0 h1:x=", "a v1.1.0 h1:w=", "", "broken line of words"}},
	}}
	if got := k.Modules(); got != 2 {
		t.Errorf("%d modules, want 2: a in two versions", got)
	}
	if got := (Kubernetes{}).Modules(); got != 0 {
		t.Errorf("%d modules of nothing", got)
	}
}
