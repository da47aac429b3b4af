package vsphere

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// quick waits as little as a test can.
var quick = publish.Policy{Tries: 8, First: time.Millisecond, Longest: 20 * time.Millisecond}

// carryOut opens the publisher anew, makes the plan that make wants and carries
// it out.
func (v *vcsim) carryOut(t testing.TB, plan func(*Publisher, publish.Image) (*publish.Plan, error)) (*publish.Plan, publish.Image, error) {
	t.Helper()
	p, image, err := open(t.Context(), v.Args())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.(*Publisher).Close(context.WithoutCancel(t.Context())) }()
	made, err := plan(p.(*Publisher), image)
	if err != nil {
		return nil, image, err
	}
	j, err := publish.OpenJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	return made, image, publish.Apply(t.Context(), made, j, publish.Options{Reporter: publishtest.Silent{}, Retry: quick})
}

func (v *vcsim) publish(t testing.TB) (*publish.Plan, publish.Image, error) {
	t.Helper()
	return v.carryOut(t, func(p *Publisher, image publish.Image) (*publish.Plan, error) {
		return publish.MakePlan(t.Context(), p, image, nil, quick)
	})
}

func (v *vcsim) retract(t testing.TB) (*publish.Plan, publish.Image, error) {
	t.Helper()
	return v.carryOut(t, func(p *Publisher, image publish.Image) (*publish.Plan, error) {
		return publish.MakeRetract(t.Context(), p, image.Digest, nil, quick)
	})
}

// mustPublish publishes and holds that the template is right.
func (v *vcsim) mustPublish(t testing.TB) *publish.Plan {
	t.Helper()
	plan, image, err := v.publish(t)
	if err != nil {
		t.Fatal(err)
	}
	v.Check(t, image, true)
	return plan
}

func isUpload(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/nfc/") }

func TestWhatIsWrongIsSaidBeforeAnythingIsMade(t *testing.T) {
	v := start(t, 1<<16)
	good := v.options
	for _, test := range []struct {
		name   string
		change func()
		kind   fault.Kind
		want   string
	}{
		{"wrong password", func() { v.options.Password = "wrong-one" }, fault.Usage, "user name or password is wrong"},
		{"unknown certificate", func() { v.options.CA = "" }, fault.Unverifiable, "nothing vouches for its certificate"},
		{"wrong thumbprint", func() {
			v.options.CA, v.options.Target.Thumbprint = "", strings.Repeat("AB:", 31)+"AB"
		}, fault.Internal, "thumbprint does not match"},
		{"no such datacenter", func() { v.options.Target.Datacenter = "DC9" }, fault.BadSpec, "datacenter: datacenter 'DC9' not found"},
		{"no such datastore", func() { v.options.Target.Datastore = "vsan" }, fault.BadSpec, "datastore: datastore 'vsan' not found"},
		{"no such cluster", func() { v.options.Target.Cluster = "C9" }, fault.BadSpec, "cluster"},
		{"no such folder", func() { v.options.Target.Folder = "templates" }, fault.BadSpec, "folder"},
		{"no such network", func() { v.options.Target.Networks = map[string]string{"nic0": "dmz"} }, fault.BadSpec, "networks[nic0]: network 'dmz' not found"},
		{"several pools", func() { v.options.Target.Cluster = "" }, fault.BadSpec, "resourcePool"},
	} {
		v.options = good
		test.change()
		_, _, err := v.publish(t)
		if err == nil || !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != test.kind {
			t.Errorf("%s: %v (%v), want %s", test.name, err, fault.KindOf(err), test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one")) {
			t.Errorf("%s: the message holds the password: %v", test.name, err)
		}
	}
	v.options = good
	v.options.Target.Networks = map[string]string{"eth7": "VM Network"}
	if _, _, err := v.publish(t); err == nil || !strings.Contains(err.Error(), `the OVA has no network "eth7"`) {
		t.Errorf("network that the OVA does not have: %v", err)
	}
	if n := len(v.machines(t)); n != v.before {
		t.Errorf("%d virtual machines, there were %d", n, v.before)
	}
}

func TestAThumbprintVouchesForTheServer(t *testing.T) {
	v := start(t, 1<<16)
	v.options.CA, v.options.Target.Thumbprint = "", soap.ThumbprintSHA256(v.proxy.Server.Certificate())
	v.mustPublish(t)
}

func TestASessionThatExpiresDuringTheUploadIsRenewed(t *testing.T) {
	v := start(t, 1<<20)
	v.proxy.Watch(v.once(func() {
		m := session.NewManager(v.direct.Client)
		own, err := m.UserSession(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		var sm mo.SessionManager
		if err := property.DefaultCollector(v.direct.Client).RetrieveOne(t.Context(), m.Reference(), []string{"sessionList"}, &sm); err != nil {
			t.Error(err)
			return
		}
		ended := 0
		for _, s := range sm.SessionList {
			if s.Key == own.Key {
				continue
			}
			if err := m.TerminateSession(t.Context(), []string{s.Key}); err != nil {
				t.Error(err)
			}
			ended++
		}
		if ended == 0 {
			t.Error("there was no session to end")
		}
	}))
	v.mustPublish(t)
}

// once has fn called at the first upload, and uploads watched as ever.
func (v *vcsim) once(fn func()) func(*http.Request) {
	var once sync.Once
	return func(r *http.Request) {
		if isUpload(r) {
			once.Do(fn)
		}
		v.watch(r)
	}
}

func TestAnUploadThatBreaksOffOrIsDamagedIsSentAgain(t *testing.T) {
	v := start(t, 1<<20)
	for name, do := range map[string]faultproxy.Effect{
		"connection lost at half": faultproxy.CutMidway(1 << 19),
		"damaged byte":            faultproxy.Flip(1 << 16),
		"answer lost":             faultproxy.CutAnswer(0),
		"refused":                 faultproxy.Answer(http.StatusServiceUnavailable, nil, ""),
	} {
		t.Run(name, func(t *testing.T) {
			fault := v.proxy.Add(faultproxy.Fault{Match: isUpload, Do: do})
			v.mustPublish(t)
			if v.proxy.Hits(fault) != 1 {
				t.Error("no upload was spoiled")
			}
			v.proxy.Clear()
			_, image, err := v.retract(t)
			if err != nil {
				t.Fatal(err)
			}
			v.Check(t, image, false)
		})
	}
}

func TestATemplateIsReplacedOnlyWhenToldAndOnlyByAReadyOne(t *testing.T) {
	v := start(t, 1<<16)
	v.mustPublish(t)
	old := v.find(t, templateName).Self
	v.options.Digest = digest.FromString("the next build")
	if _, _, err := v.publish(t); err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "is there already, made of sha256:") {
		t.Fatalf("replaced without a word, or: %v", err)
	}
	v.options.Target.Replace = true
	v.proxy.Watch(v.once(func() {
		if now := v.find(t, templateName); now == nil || now.Self != old {
			t.Error("the old template is not there while the new one is sent")
		}
	}))
	v.mustPublish(t) // Check holds that the old one is gone
	if v.find(t, templateName).Self == old {
		t.Error("the old template has the name still")
	}

	v.options.Digest = digest.FromString("the one after it")
	undo := v.Use(t, publish.Image{})
	plan, _, err := v.publish(t)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(plan.Steps, func(s publish.Step) bool {
		return s.Action == publish.Keep && s.Why == "in use by DC0_H0_VM0"
	}) {
		t.Errorf("the plan removes what is in use: %+v", plan.Steps)
	}
	if n := len(v.machines(t)); n != v.before+2 {
		t.Errorf("%d virtual machines, want the two templates besides %d", n, v.before)
	}
	_ = undo
}

func TestAnImageThatWasProvenSinceIsMarkedSo(t *testing.T) {
	v := start(t, 1<<16)
	v.options.Level = publish.Unverified
	v.mustPublish(t)
	v.options.Level = publish.Cluster
	plan := v.mustPublish(t)
	for _, step := range plan.Steps {
		if want := map[bool]publish.Action{true: publish.Change, false: publish.Exists}[step.ID == "describe"]; step.Action != want {
			t.Errorf("%s: %s, want %s", step.ID, step.Action, want)
		}
	}
}

func TestTheDiskGoesToADatastoreOfTheCluster(t *testing.T) {
	v := start(t, 1<<16)
	finder := find.NewFinder(v.direct.Client)
	pod, err := finder.DatastoreCluster(t.Context(), "/DC0/datastore/DC0_POD0")
	if err != nil {
		t.Fatal(err)
	}
	datastore, err := finder.Datastore(t.Context(), "/DC0/datastore/LocalDS_0")
	if err != nil {
		t.Fatal(err)
	}
	task, err := object.NewFolder(v.direct.Client, pod.Reference()).MoveInto(t.Context(), []types.ManagedObjectReference{datastore.Reference()})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	v.options.Target.DatastoreCluster = "DC0_POD0"
	v.mustPublish(t)
}

func TestTheHardwareVersionIsRaised(t *testing.T) {
	v := start(t, 1<<16)
	v.options.Hardware = 19
	v.mustPublish(t)
	if got := v.find(t, templateName).Config.Version; got != "vmx-19" {
		t.Errorf("hardware version %s", got)
	}
}

// Cluster API's vSphere provider (v1.14.0, pkg/services/govmomi/vcenter/clone.go)
// finds a template by its name, wants its current snapshot for cloneMode
// linkedClone, and clones with the disk moved as createNewChildDiskBacking. These
// are the same calls. The simulator copies the machine whatever they say, so what
// is checked is what the provider looks for, and that the clone stays a clone.
func TestALinkedCloneBeginsAtTheSnapshot(t *testing.T) {
	v := start(t, 1<<16)
	v.mustPublish(t)
	ctx := t.Context()
	template, err := find.NewFinder(v.direct.Client).VirtualMachine(ctx, "/DC0/vm/"+templateName)
	if err != nil {
		t.Fatal(err)
	}
	var vm mo.VirtualMachine
	if err := template.Properties(ctx, template.Reference(), []string{"snapshot.currentSnapshot", "config.hardware.device"}, &vm); err != nil {
		t.Fatal(err)
	}
	if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil {
		t.Fatal("no current snapshot: the provider falls back to a full clone")
	}
	pool, err := find.NewFinder(v.direct.Client).ResourcePool(ctx, "/DC0/host/DC0_C0/Resources")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := find.NewFinder(v.direct.Client).Folder(ctx, "/DC0/vm")
	if err != nil {
		t.Fatal(err)
	}
	poolRef := pool.Reference()
	clone, err := template.Clone(ctx, folder, "worker-0", types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{
			DiskMoveType: string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking), Pool: &poolRef,
		},
		Snapshot: vm.Snapshot.CurrentSnapshot,
	})
	if err == nil {
		err = clone.Wait(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	// A clone inherits what marks the template, and must never be taken for it.
	worker := v.find(t, "worker-0")
	all, err := machines(ctx, &client{Client: v.direct.Client}, folder.Reference(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Self == worker.Self && m.digest() != "" {
			t.Errorf("the clone is taken for an image: %v", m.settings)
		}
	}
	if _, _, err := v.retract(t); err != nil {
		t.Fatal(err)
	}
	if v.find(t, "worker-0") == nil {
		t.Error("the clone was taken away with the template")
	}
}

// A session that govc left is enough; without one and without a user there is
// a remedy.
func TestASessionFileIsEnough(t *testing.T) {
	v := start(t, 1<<16)
	dir := t.TempDir()
	p, image, err := open(t.Context(), v.Args())
	if err != nil {
		t.Fatal(err)
	}
	access := p.(*Publisher).access
	access.Persist, access.SessionsDir, access.RESTSessionsDir = true, filepath.Join(dir, "soap"), filepath.Join(dir, "rest")
	if _, err := publish.MakePlan(t.Context(), New(v.options.Target, access), image, nil, quick); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(access.SessionsDir)
	if err != nil || len(files) != 1 {
		t.Fatalf("session files %v, %v", files, err)
	}
	f, err := os.Open(filepath.Join(access.SessionsDir, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if text, err := io.ReadAll(f); err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the session file holds the password, or %v", err)
	}
	access.User = nil
	if _, err := publish.MakePlan(t.Context(), New(v.options.Target, access), image, nil, quick); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.RemedyOf(err), "GOVC_USERNAME") {
		t.Errorf("nobody logs in, and %v", err)
	}
}
