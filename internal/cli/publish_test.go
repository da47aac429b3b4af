package cli

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags
	"github.com/vmware/govmomi/vim25/soap"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
	"nodesmith.dev/nodesmith/internal/store"
)

// published is a folder with an image for vSphere, and a PublishTarget of two
// simulated vCenters.
func published(t *testing.T) (image, target string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	t.Setenv("GOVC_URL", "")
	t.Setenv("GOVC_USERNAME", "user")
	t.Setenv("GOVC_PASSWORD", "pass")
	t.Setenv("GOVC_PERSIST_SESSION", "false")
	raw := filepath.Join(dir, "web-vsphere.raw")
	content := make([]byte, 4<<20)
	content[510], content[511] = 0x55, 0xaa
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, "convert", raw, "--to", "ova", "-o", dir, "--cache=false")
	about := manifest.Manifest{Image: "web", Infrastructure: "vsphere", Architecture: "amd64", OS: manifest.OS{Distro: "debian", Version: "12"}, Kubernetes: "v1.34.0"}
	if err := about.Write(filepath.Join(dir, "web-vsphere"+manifest.Suffix)); err != nil {
		t.Fatal(err)
	}
	target = filepath.Join(dir, "publish.yaml")
	text := "apiVersion: nodesmith.dev/v1alpha1\nkind: PublishTarget\nmetadata: {name: lab}\nspec:\n" + vCenters(t, 2)
	if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "web-vsphere.ova"), target
}

// vCenters starts simulated ones, and returns the section that has them as targets.
func vCenters(t *testing.T, count int) string {
	t.Helper()
	text := "  vsphere:\n"
	for range count {
		model := simulator.VPX()
		if err := model.Create(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(model.Remove)
		model.Service.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		model.Service.RegisterEndpoints = true
		model.Service.Listen = &url.URL{User: url.UserPassword("user", "pass")}
		server := model.Service.NewServer()
		t.Cleanup(server.Close)
		text += "  - server: " + server.URL.Host + "\n    thumbprint: " + soap.ThumbprintSHA256(server.Certificate()) + "\n    cluster: DC0_C0\n    networks: {nic0: VM Network}\n"
	}
	return text
}

// validateLines holds each of so many lines against the schema of a kind of document.
func validateLines(t *testing.T, kind, lines string, count int) {
	t.Helper()
	if n := strings.Count(lines, "\n"); n != count {
		t.Errorf("%d documents, want %d:\n%s", n, count, lines)
	}
	for line := range strings.Lines(lines) {
		reporttest.Validate(t, kind, []byte(line))
	}
}

func TestPublishListStatusAndRetract(t *testing.T) {
	image, target := published(t)
	plan, said, code := command("publish", image, "-f", target, "--dry-run")
	if n := strings.Count(plan, "create  virtual machine debian-12-kube-v1.34.0"); n != 2 || said != "" || code != 0 {
		t.Errorf("exit code %d, the plan is\n%s and beside it stands\n%s", code, plan, said)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(image), "state", "*")); err != nil || len(left) > 0 {
		t.Errorf("a rehearsal left %q, %v", left, err)
	}
	var out, errOut strings.Builder
	if code := Main([]string{"publish", image, "-f", target}, &out, &errOut); code != fault.Usage.ExitCode() || !strings.Contains(errOut.String(), "--yes-unverified") {
		t.Errorf("an unproven image: exit code %d: %s", code, errOut.String())
	}
	output(t, "publish", strings.TrimSuffix(image, "-vsphere.ova"), "-f", target, "--yes-unverified")
	var again planDocument
	planned := output(t, "publish", image, "-f", target, "--yes-unverified", "--json")
	validateLines(t, report.PublishPlanKind, planned, 2)
	decoder := json.NewDecoder(strings.NewReader(planned))
	for range 2 {
		if err := decoder.Decode(&again); err != nil || again.Bytes != 0 || len(again.Steps) != 5 || again.Steps[0].Action != "exists" {
			t.Errorf("published already, and the plan is %+v, %v", again, err)
		}
	}
	if status := output(t, "publish", "status", image); strings.Count(status, "done         create virtual machine") != 2 || strings.Contains(status, "not finished") {
		t.Errorf("status\n%s", status)
	}
	validateLines(t, report.PublishStatusKind, output(t, "publish", "status", image, "--json"), 2)
	validateLines(t, report.PublishedKind, output(t, "publish", "list", "-f", target, "--json"), 2)
	if list := output(t, "publish", "list", "-f", target); strings.Count(list, "debian-12-kube-v1.34.0  v1.34.0     unverified") != 2 {
		t.Errorf("list\n%s", list)
	}
	gone, events, code := command("publish", "retract", image, "-f", target, "--progress", "json")
	if gone != "" || code != 0 || !strings.Contains(events, `"event":"succeeded"`) {
		t.Errorf("retract: exit code %d, it names %q as published, and tells\n%s", code, gone, events)
	}
	validateLines(t, report.ProgressKind, events, strings.Count(events, "\n"))
	if list := output(t, "publish", "list", "-f", target, "--json"); list != "" {
		t.Errorf("after retract the list is\n%s", list)
	}
	if status := output(t, "publish", "status", image); strings.Count(status, "\n  nothing\n") != 2 {
		t.Errorf("after retract the status is\n%s", status)
	}
}

// That one place fails keeps nobody from learning where the image is.
func TestThePlacesThatHaveTheImageAreNamedThoughOneFailed(t *testing.T) {
	image, target := published(t)
	o := publishing{specFlags: specFlags{file: target}, unverified: true, progress: progressFlag{mode: progressQuiet}}
	spec, buildContext, closer, err := o.targets(strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	var out strings.Builder
	s := streams{&out, io.Discard}
	errands, closeAll, err := o.errands(t.Context(), s, image, spec, buildContext)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeAll() }() // one journal is closed already
	// Then nothing can be noted in it.
	if err := errands[0].journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.run(t.Context(), s, errands); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
	if want := fmt.Sprintf("%s\t%s\n", errands[1].plan.Place, errands[1].image.Digest); out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

// What is published is taken away by its digest when the image is no longer there,
// and the journal neither.
func TestAnImageThatIsGoneIsRetractedByItsDigest(t *testing.T) {
	for name, journal := range map[string]bool{"on the same machine": true, "on another": false} {
		t.Run(name, func(t *testing.T) {
			image, target := published(t)
			output(t, "publish", image, "-f", target, "--yes-unverified")
			var listed publishedDocument
			if err := json.NewDecoder(strings.NewReader(output(t, "publish", "list", "-f", target, "--json"))).Decode(&listed); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(image); err != nil {
				t.Fatal(err)
			}
			if !journal {
				t.Setenv("XDG_STATE_HOME", t.TempDir())
			}
			var out, errOut strings.Builder
			if code := Main([]string{"publish", listed.Digest, "-f", target, "--yes-unverified"}, &out, &errOut); code != fault.Usage.ExitCode() {
				t.Errorf("publishing a digest: exit code %d: %s", code, errOut.String())
			}
			if plan := output(t, "publish", "retract", listed.Digest, "-f", target, "--dry-run"); strings.Count(plan, "delete  template") != 2 {
				t.Errorf("the plan is\n%s", plan)
			}
			output(t, "publish", "retract", listed.Digest, "-f", target)
			if list := output(t, "publish", "list", "-f", target, "--json"); list != "" {
				t.Errorf("after retract the list is\n%s", list)
			}
			if status := output(t, "publish", "status"); journal && strings.Count(status, image+" at vsphere") != 2 {
				t.Errorf("the journals forgot what the image was called\n%s", status)
			}
		})
	}
}

// An image that lies on a web server is published as a file is, if it is the one that
// was meant; it comes once.
func TestPublishFromAWebServer(t *testing.T) {
	image, target := published(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int32
	files := http.FileServer(http.Dir(filepath.Dir(image)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, ok := r.BasicAuth(); !ok || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".ova") {
			sent.Add(1)
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	address := strings.Replace(server.URL, "http://", "http://user:secret@", 1) + "/web-vsphere.ova"
	for _, test := range []struct{ digest, want string }{
		{"", "add #sha256:"},
		{"#sha256:" + strings.Repeat("0", 64), "SHA-256 is"},
	} {
		var out, errOut strings.Builder
		if code := Main([]string{"publish", address + test.digest, "-f", target, "--yes-unverified"}, &out, &errOut); code == 0 || !strings.Contains(errOut.String(), test.want) || strings.Contains(errOut.String(), "secret") {
			t.Errorf("%q: exit code %d: %s", test.digest, code, errOut.String())
		}
	}
	sent.Store(0)
	whole := address + "#" + digest.FromBytes(content).String()
	output(t, "publish", whole, "-f", target, "--yes-unverified")
	if plan := output(t, "publish", whole, "-f", target, "--dry-run"); strings.Contains(plan, "create") || sent.Load() != 1 {
		t.Errorf("the image was sent %d times, and the next plan is\n%s", sent.Load(), plan)
	}
	if status := output(t, "publish", "status"); strings.Count(status, "/web-vsphere.ova at vsphere") != 2 || strings.Contains(status, "secret") {
		t.Errorf("status\n%s", status)
	}
}

func TestPublishSaysWhatIsMissing(t *testing.T) {
	image, target := published(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"publish", image}, "no PublishTarget was given"},
		{[]string{"publish", image, "-f", target, "--to", "gcp"}, `--to "gcp"`},
		{[]string{"publish", "none", "-f", target}, "there is no file none, and no image none:latest in the store"},
		{[]string{"build", "-f", "../../examples/debian-12.yaml", "--publish"}, "--yes-unverified"},
		{[]string{"build", "-f", "../../examples/debian-12.yaml", "--publish", "--yes-unverified"}, "no spec.publish"},
		{[]string{"build", "-f", "../../examples/debian-12.yaml", "--publish", "--yes-unverified", "--set", "spec.publish.vsphere=[{server: vc}]"}, "needs vsphere in spec.infrastructures"},
		{[]string{"publish", "status", "none"}, "no journal of this machine knows none"},
		{[]string{"publish", image, "-f", target, "--set", "spec.vsphere[0].as=libraryItem"}, "spec.vsphere[0].library: is required"},
	} {
		var out, errOut strings.Builder
		if code := Main(test.args, &out, &errOut); code == 0 || !strings.Contains(errOut.String(), test.want) {
			t.Errorf("%q: exit code %d: %s", test.args, code, errOut.String())
		}
	}
}

// stored puts a disk for vSphere into a store of the test's own.
func stored(t *testing.T) (*store.Store, *store.Disk) {
	t.Helper()
	disk := formattest.NewDisk(4 << 20)
	disk.Random(rand.New(rand.NewPCG(1, 2)), 0, 2<<20)
	images, image := storeDisks(t, map[string]*formattest.Disk{"vsphere": disk})
	stored, err := images.Disk(t.Context(), image, "vsphere")
	if err != nil {
		t.Fatal(err)
	}
	return images, stored
}

// formatsOf are those that the tests' images are built in.
var formatsOf = map[string]store.Format{
	"vsphere": {Name: "ova", Options: json.RawMessage(`{"cpus":4}`)}, "aws": {Name: "raw"}, "azure": {Name: "vhd"},
}

// storeDisks puts an image web:v1 with a disk for each infrastructure into a store of
// the test's own.
func storeDisks(t *testing.T, disks map[string]*formattest.Disk) (*store.Store, store.Image) {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	images, err := openStore()
	if err != nil {
		t.Fatal(err)
	}
	session, err := images.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	build := store.Build{Name: "web", Tag: "v1", Lock: []byte("lock\n"), Spec: []byte("spec\n"), Stored: time.Unix(1_760_000_000, 0)}
	for _, infrastructure := range slices.Sorted(maps.Keys(disks)) {
		disk := disks[infrastructure]
		w, err := session.Writer(t.Context(), disk.Size(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Path: "store", Sink: w}}); err != nil {
			t.Fatal(err)
		}
		build.Disks = append(build.Disks, store.NewDisk{
			About: store.About{
				Image: "web", Infrastructure: infrastructure, Architecture: "amd64", Distro: "debian", DistroVersion: "12", Kubernetes: "v1.34.0",
				Firmware: []string{"bios"}, Built: time.Unix(1_700_000_000, 0), Formats: []store.Format{formatsOf[infrastructure]},
			},
			Table: w.Table(), Contents: []byte("{}"),
		})
	}
	image, err := session.Commit(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	return images, image
}

// What is in the store is published as far as it was proven, and without a word
// once it was booted.
func TestAnImageOfTheStoreIsPublishedOnceItIsProven(t *testing.T) {
	_, target := published(t)
	images, disk := stored(t)
	var out, errOut strings.Builder
	if code := Main([]string{"publish", "web:v1", "-f", target}, &out, &errOut); code != fault.Usage.ExitCode() || !strings.Contains(errOut.String(), "web:v1 (vsphere) is unverified") {
		t.Errorf("an unproven image: exit code %d: %s", code, errOut.String())
	}
	for _, level := range []proof.Level{proof.Contract, proof.Boot} {
		if err := images.Attach(t.Context(), disk, proof.Result{Level: level, Passed: true, Firmware: []string{"bios"}, At: time.Unix(1_760_000_000, 0)}, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	reporttest.Validate(t, report.ImageKind, []byte(output(t, "inspect", "web:v1", "--json")))
	output(t, "publish", "web:v1", "-f", target)
	if list := output(t, "publish", "list", "-f", target); strings.Count(list, "debian-12-kube-v1.34.0  v1.34.0     boot") != 2 {
		t.Errorf("list\n%s", list)
	}
	if again := output(t, "publish", "web", "-f", target, "--dry-run"); strings.Contains(again, "create") {
		t.Errorf("the plan for the same image under its name alone\n%s", again)
	}
}
