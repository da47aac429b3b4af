package cli

import (
	"crypto/tls"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags
	"github.com/vmware/govmomi/vim25/soap"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/manifest"
)

// published is a folder with an image for vSphere, and a PublishTarget of two
// simulated vCenters.
func published(t *testing.T) (image, target string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
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
	text := "apiVersion: nodesmith.dev/v1alpha1\nkind: PublishTarget\nmetadata: {name: lab}\nspec:\n  vsphere:\n"
	for range 2 {
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
	target = filepath.Join(dir, "publish.yaml")
	if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "web-vsphere.ova"), target
}

func TestPublishListStatusAndRetract(t *testing.T) {
	image, target := published(t)
	plan := output(t, "publish", image, "-f", target, "--dry-run")
	if n := strings.Count(plan, "create  virtual machine debian-12-kube-v1.34.0"); n != 2 {
		t.Errorf("the plan is\n%s", plan)
	}
	var out, errOut strings.Builder
	if code := Main([]string{"publish", image, "-f", target}, &out, &errOut); code != fault.Usage.ExitCode() || !strings.Contains(errOut.String(), "--yes-unverified") {
		t.Errorf("an unproven image: exit code %d: %s", code, errOut.String())
	}
	output(t, "publish", strings.TrimSuffix(image, "-vsphere.ova"), "-f", target, "--yes-unverified")
	var again planDocument
	decoder := json.NewDecoder(strings.NewReader(output(t, "publish", image, "-f", target, "--yes-unverified", "--json")))
	for range 2 {
		if err := decoder.Decode(&again); err != nil || again.Bytes != 0 || len(again.Steps) != 5 || again.Steps[0].Action != "exists" {
			t.Errorf("published already, and the plan is %+v, %v", again, err)
		}
	}
	if status := output(t, "publish", "status", image); strings.Count(status, "done         create virtual machine") != 2 || strings.Contains(status, "not finished") {
		t.Errorf("status\n%s", status)
	}
	if list := output(t, "publish", "list", "-f", target); strings.Count(list, "debian-12-kube-v1.34.0  v1.34.0     unverified") != 2 {
		t.Errorf("list\n%s", list)
	}
	output(t, "publish", "retract", image, "-f", target)
	if list := output(t, "publish", "list", "-f", target, "--json"); list != "" {
		t.Errorf("after retract the list is\n%s", list)
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
		{[]string{"publish", "none", "-f", target}, "there is no image none for vsphere"},
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
