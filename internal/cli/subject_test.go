package cli

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
	"nodesmith.dev/nodesmith/internal/store"
)

// storeTwo puts an image web:v1 with disks for vSphere and AWS into a store of the
// test's own.
func storeTwo(t *testing.T) *store.Store {
	t.Helper()
	disks := map[string]*formattest.Disk{}
	for i, name := range []string{"vsphere", "aws"} {
		disks[name] = formattest.NewDisk(1 << 20)
		disks[name].Random(rand.New(rand.NewPCG(uint64(i), 5)), 0, 64<<10)
	}
	images, _ := storeDisks(t, disks)
	return images
}

// inspected is what inspect says of an image in the store.
func inspected(t *testing.T, name string) (d description) {
	t.Helper()
	text := output(t, "inspect", name, "--json")
	reporttest.Validate(t, report.ImageKind, []byte(text))
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// A report on another infrastructure's hardware proves nothing of a disk.
func TestADiskIsVerifiedForItsOwnInfrastructureAlone(t *testing.T) {
	storeTwo(t)
	for _, level := range levels {
		_, errOut, code := command("verify", "web:v1/vsphere", "--infrastructure", "aws", "--level", level)
		if code != fault.Usage.ExitCode() || !strings.Contains(errOut, "web:v1/vsphere is the disk for vsphere, not aws") {
			t.Errorf("level %s: exit code %d: %s", level, code, errOut)
		}
	}
	for _, disk := range inspected(t, "web:v1").Disks {
		if len(disk.Reports) > 0 {
			t.Errorf("the disk for %s got the reports %+v", disk.Infrastructure, disk.Reports)
		}
	}
	if s, err := findSubject(t.Context(), "web:v1/vsphere", "vsphere"); err != nil || s.infrastructure() != "vsphere" {
		t.Errorf("said twice: %+v, %v", s, err)
	}
}

func TestInspectShowsTheDiskOfOneInfrastructure(t *testing.T) {
	storeTwo(t)
	whole, one := inspected(t, "web:v1"), inspected(t, "web:v1/aws")
	if len(whole.Disks) != 2 || len(one.Disks) != 1 || one.Disks[0].Infrastructure != "aws" {
		t.Errorf("of all %+v, of one %+v", whole.Disks, one.Disks)
	}
	for _, d := range one.Documents {
		if d.Infrastructure == "vsphere" {
			t.Errorf("the disk for aws has %+v", d)
		}
	}
	if len(one.Documents) != len(whole.Documents)-1 {
		t.Errorf("%d documents of %d", len(one.Documents), len(whole.Documents))
	}
	if _, errOut, code := command("inspect", "web:v1/azure"); code != fault.Usage.ExitCode() || !strings.Contains(errOut, `no disk for "azure"`) {
		t.Errorf("an infrastructure without a disk: exit code %d: %s", code, errOut)
	}
}

// Whoever names an image of the store learns what is wrong with it there.
func TestPublishSaysWhatTheStoreAnswers(t *testing.T) {
	images := storeTwo(t)
	for _, test := range []struct {
		name, infrastructure, want string
		kind                       fault.Kind
		damage                     bool
	}{
		{name: "web:v1", infrastructure: "azure", kind: fault.Usage, want: `web:v1 has no disk for "azure", but for`},
		{name: "web:v1/aws", infrastructure: "vsphere", kind: fault.Usage, want: "web:v1/aws is the disk for aws, not vsphere"},
		{name: "web:v2", infrastructure: "aws", kind: fault.Usage, want: "of that name there are: web:v1"},
		{name: "none", infrastructure: "aws", kind: fault.Usage, want: "there is no file none, and no image none:latest in the store"},
		{name: "web:v1", infrastructure: "aws", kind: fault.Unverifiable, want: "index.json", damage: true},
	} {
		if test.damage {
			if err := os.WriteFile(filepath.Join(images.Dir(), "index.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := openPublished(t.Context(), test.name, test.infrastructure, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != test.kind {
			t.Errorf("%s for %s: %v (%s), want %q", test.name, test.infrastructure, err, fault.KindOf(err), test.want)
		}
	}
	// A path means files, whatever the store has.
	if _, _, err := openPublished(t.Context(), "out/web", "aws", io.Discard); !errors.Is(err, errNoImage) {
		t.Errorf("a path: %v", err)
	}
}
