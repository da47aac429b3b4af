package vsphere

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vapi/library"

	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
)

// shelved is a simulator with a content library, to which items are published.
type shelved struct {
	*vcsim
	id string // the library's
}

func startLibrary(t testing.TB, data int) *shelved {
	t.Helper()
	v := start(t, data)
	datastore, err := find.NewFinder(v.direct.Client).Datastore(t.Context(), "/DC0/datastore/LocalDS_0")
	if err != nil {
		t.Fatal(err)
	}
	id, err := library.NewManager(v.rest).CreateLibrary(t.Context(), library.Library{
		Name: "images", Type: "LOCAL", Storage: []library.StorageBacking{{DatastoreID: datastore.Reference().Value, Type: "DATASTORE"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	v.options.Target.As, v.options.Target.Library = "libraryItem", "images"
	return &shelved{v, id}
}

// Check looks into the library itself.
func (s *shelved) Check(t testing.TB, image publish.Image, present bool) {
	t.Helper()
	m := library.NewManager(s.rest)
	items, err := m.GetLibraryItems(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.machines(t)); n != s.before {
		t.Errorf("%d virtual machines, there were %d", n, s.before)
	}
	tagged := s.tagged(t, image.Digest.String())
	if !present {
		if len(items) > 0 || tagged != nil {
			t.Errorf("left are %+v, and the tag at %v", items, tagged)
		}
		return
	}
	if len(items) != 1 || items[0].Name != templateName || !strings.Contains(*items[0].Description, image.Digest.String()) {
		t.Fatalf("the library has %+v", items)
	}
	if len(tagged) != 1 || tagged[0].Value != items[0].ID {
		t.Errorf("the tag is at %v", tagged)
	}
	s.checkFiles(t, items[0].ID)
}

// checkFiles compares an item's disk with the OVA's, in the simulator's datastore:
// it does not check what is pushed. It keeps a disk without its header, under the
// name that vSphere gives to content.
func (s *shelved) checkFiles(t testing.TB, id string) {
	t.Helper()
	files, err := library.NewManager(s.rest).ListLibraryItemFiles(t.Context(), id)
	if err != nil || len(files) != 2 {
		t.Fatalf("the item's files are %+v: %v", files, err)
	}
	const header = 128 << 10 // at most
	disks, want := 0, s.packed(t)
	err = filepath.WalkDir(s.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Base(filepath.Dir(path)) != id || !strings.HasSuffix(path, "-flat.vmdk") {
			return err
		}
		disks++
		content, err := os.ReadFile(path)
		if len(content) < len(want)-header || !bytes.HasSuffix(want, content) {
			t.Errorf("%s has %d bytes, not the OVA's disk of %d", path, len(content), len(want))
		}
		return err
	})
	if err != nil || disks != 1 {
		t.Errorf("the item has %d disks in the datastore: %v", disks, err)
	}
}

// Use: what is deployed of an item is a copy.
func (s *shelved) Use(testing.TB, publish.Image) func() { return nil }

func TestLibrarySuite(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{
		Open: open, Start: func(t testing.TB) publishtest.Server { return startLibrary(t, 1<<19) }, Kills: 3, Faults: 6,
	})
}
