package imagefs

import (
	"bytes"
	"io"
	"io/fs"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// fake is a volume, and its own root directory: a tree of names that stand for
// directories, files (=text) and links (>target).
type fake struct {
	uuid    string
	names   map[string]*fake
	content string
	mode    fs.FileMode
}

func newFake(uuid string, paths ...string) *fake {
	root := &fake{uuid: uuid, mode: fs.ModeDir | 0o755, names: map[string]*fake{}}
	for _, p := range paths {
		at := root
		p, text, isFile := strings.Cut(p, "=")
		p, target, isLink := strings.Cut(p, ">")
		for _, name := range strings.Split(p, "/") {
			if at.names[name] == nil {
				at.names[name] = &fake{mode: fs.ModeDir | 0o755, names: map[string]*fake{}}
			}
			at = at.names[name]
		}
		switch {
		case isFile:
			at.mode, at.content = 0o644, text
		case isLink:
			at.mode, at.content = fs.ModeSymlink|0o777, target
		}
	}
	return root
}

func (f *fake) Root() (volume.Node, error)         { return f, nil }
func (f *fake) Kind() string                       { return "ext4" }
func (f *fake) UUID() string                       { return f.uuid }
func (f *fake) Label() string                      { return "" }
func (f *fake) Target() (string, error)            { return f.content, nil }
func (f *fake) Xattrs() (map[string]string, error) { return nil, nil }
func (f *fake) Extents() ([]volume.Extent, error)  { return nil, nil }
func (f *fake) Content() (io.ReaderAt, error)      { return strings.NewReader(f.content), nil }
func (f *fake) Stat() volume.Stat                  { return volume.Stat{Mode: f.mode, Size: int64(len(f.content))} }
func (f *fake) Entries() ([]volume.Entry, error) {
	var out []volume.Entry
	for name, node := range f.names {
		out = append(out, volume.Entry{Name: name, Open: func() (volume.Node, error) { return node, nil }})
	}
	return out, nil
}

// withFstab is an image with a root and a data file system.
func withFstab(t testing.TB, fstab string) *Image {
	t.Helper()
	root := newFake("root", "etc/fstab="+fstab, "etc/file=x", "var/lib/x", "srv/a/b", "link>var", "loop>loop")
	data := newFake("data", "srv/a/b", "lib/x", "file=y")
	tree, err := newTree(root, Partition{})
	if err != nil {
		t.Fatal(err)
	}
	i := &Image{
		Disk: bytes.NewReader(nil), Table: &Table{Partitions: []Partition{{Number: 1}, {Number: 2, Name: "data"}}}, Tree: tree,
		volumes: map[int]volume.Volume{0: root, 1: data},
	}
	i.Root = &i.Table.Partitions[0]
	i.mountAll()
	return i
}

func TestHostileFstabsAreErrorsAndEnd(t *testing.T) {
	for name, c := range map[string]struct {
		fstab, want string
		exists      string
	}{
		"twice on one directory":    {"UUID=data /var ext4\nUUID=data /var/ ext4\n", "something else is mounted there", "/var/file"},
		"the same by a link":        {"UUID=data /link ext4\nUUID=data /var ext4\n", "something else is mounted there", "/var/file"},
		"the root within itself":    {"UUID=root /srv ext4\nUUID=root /srv/srv ext4\nUUID=root /srv/srv/srv ext4\n", "", "/srv/srv/srv/etc/file"},
		"two within each other":     {"UUID=data /srv ext4\nUUID=root /srv/srv ext4\nUUID=data /srv/srv/srv ext4\n", "", "/srv/srv/srv/file"},
		"links without an end":      {"UUID=data /loop/x ext4\n", "too many links", ""},
		"a file":                    {"UUID=data /etc/file ext4\n", "that is no directory", ""},
		"below a file":              {"UUID=data /etc/file/x ext4\n", "is no directory", ""},
		"nowhere":                   {"UUID=data /none/at/all ext4\n", "file does not exist", ""},
		"a new directory":           {"UUID=data /var/new ext4\nUUID=root /var/new/srv/c ext4\n", "", "/var/new/srv/c/etc/file"},
		"above the root":            {"UUID=data /../../var ext4\n", "", "/var/file"},
		"another kind":              {"UUID=data /var xfs\n", "it is ext4, not xfs", ""},
		"over the file itself":      {"UUID=data /etc ext4\n", "", "/etc/file"},
		"lines without an end":      {strings.Repeat("UUID=root /srv ext4\n", 100_000), "fstab has 100 lines or more", "/srv/etc/file"},
		"words without a meaning":   {"UUID= /var ext4\n= / /\n\\777 \\000 \\\\\nUUID=data\nUUID=data /var\n", "", "/var/lib"},
		"a mount point of its root": {"UUID=data / ext4\nUUID=data relative ext4\n", "", "/etc/file"},
	} {
		i := withFstab(t, c.fstab)
		var errs []string
		for _, err := range i.FstabErrs {
			errs = append(errs, err.Error())
		}
		if got := strings.Join(errs, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: errors %q, want %q", name, got, c.want)
		}
		if c.exists != "" && !i.Tree.Exists(c.exists) {
			t.Errorf("%s: no %s", name, c.exists)
		}
	}
}

func TestDirectoriesThatTheNodeMakesAreListed(t *testing.T) {
	entries, err := withFstab(t, "UUID=data /var/new ext4\nUUID=data /srv ext4\n").Tree.ReadDir("/var")
	if err != nil || len(entries) != 2 || entries[1].Name() != "new" || !entries[1].IsDir() {
		t.Errorf("%v, %v", entries, err)
	}
}

// Whatever fstab says, the tree can be walked to its end.
func FuzzFstab(f *testing.F) {
	f.Add("UUID=data /var ext4 defaults 0 2\nUUID=root /srv ext4\nPARTLABEL=data /srv/a auto noauto,x-systemd.automount\n")
	f.Add("UUID=data /link/lib ext4\nUUID=data \\057var ext4\nLABEL=\"\" // ext4 , , ,\n")
	f.Fuzz(func(t *testing.T, fstab string) {
		i := withFstab(t, fstab)
		left := 10_000
		_ = fs.WalkDir(i.Tree, ".", func(_ string, _ fs.DirEntry, _ error) error {
			if left--; left < 0 {
				t.Fatal("the tree does not end")
			}
			return nil
		})
	})
}
