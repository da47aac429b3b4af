//go:build all

package vsphere

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// cloneRequest is what the provider asks of vCenter.
type cloneRequest struct {
	Template string `xml:"Body>CloneVM_Task>_this"`
	Snapshot string `xml:"Body>CloneVM_Task>spec>snapshot"`
	Removed  string `xml:"Body>CloneVM_Task>spec>config>vAppConfigRemoved"`
	Location struct {
		DiskMoveType string `xml:"diskMoveType"`
		Disks        []struct {
			ID           int32  `xml:"diskId"`
			DiskMoveType string `xml:"diskMoveType"`
		} `xml:"disk"`
	} `xml:"Body>CloneVM_Task>spec>location"`
}

// Cluster API's vSphere provider makes a linked clone of the template, with its own
// code. The simulator takes anything as a CloneSpec, so the request is held against
// the template: the snapshot, and that each disk becomes a child of the template's.
func TestClusterAPIClonesTheTemplate(t *testing.T) {
	program := testenv.ClusterAPI(t, "clone")
	v := start(t, 1<<16)
	v.mustPublish(t)
	template := v.find(t, templateName)
	var requests []cloneRequest
	v.proxy.Watch(record(t, &requests))

	command := exec.CommandContext(t.Context(), program, "-server", strings.TrimPrefix(v.proxy.URL, "https://"),
		"-thumbprint", soap.ThumbprintSHA1(v.proxy.Server.Certificate()), "-user", "user", "-datacenter", "DC0", "-datastore", "LocalDS_0",
		"-folder", "/DC0/vm", "-resource-pool", "DC0_C0/Resources", "-template", templateName)
	command.Env = append(os.Environ(), "GOVC_PASSWORD=secret")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	snapshot := template.Snapshot.CurrentSnapshot.Value
	words := strings.Fields(string(out))
	if len(words) != 3 || words[1] != "linkedClone" || words[2] != snapshot {
		t.Errorf("the provider says %q, the snapshot is %s", out, snapshot)
	}
	task := object.NewTask(v.direct.Client, types.ManagedObjectReference{Type: "Task", Value: words[0]})
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.find(t, "worker-0") == nil {
		t.Error("there is no clone")
	}
	if len(requests) != 1 {
		t.Fatalf("%d clones were asked for", len(requests))
	}
	checkClone(t, requests[0], template)
	if _, _, err := v.retract(t); err != nil {
		t.Fatal(err)
	}
	if v.find(t, "worker-0") == nil {
		t.Error("the clone was taken away with the template")
	}
}

func checkClone(t *testing.T, r cloneRequest, template *mo.VirtualMachine) {
	t.Helper()
	const child = string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
	if r.Template != template.Self.Value || r.Snapshot != template.Snapshot.CurrentSnapshot.Value {
		t.Errorf("cloned is %s at %s, want %s at %s", r.Template, r.Snapshot, template.Self.Value, template.Snapshot.CurrentSnapshot.Value)
	}
	if r.Location.DiskMoveType != child || r.Removed != "true" {
		t.Errorf("disks move as %s, vAppConfigRemoved is %s", r.Location.DiskMoveType, r.Removed)
	}
	disks := object.VirtualDeviceList(template.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 1 || len(r.Location.Disks) != 1 || r.Location.Disks[0].ID != disks[0].GetVirtualDevice().Key || r.Location.Disks[0].DiskMoveType != child {
		t.Errorf("the template has %d disks, cloned are %+v", len(disks), r.Location.Disks)
	}
}

// record keeps the requests that clone.
func record(t *testing.T, requests *[]cloneRequest) func(*http.Request) {
	var mu sync.Mutex
	return func(r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte("CloneVM_Task")) {
			return
		}
		var c cloneRequest
		if err := xml.Unmarshal(body, &c); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		*requests = append(*requests, c)
	}
}
