package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
	"nodesmith.dev/nodesmith/internal/fault"
)

// shortestTarget is a PublishTarget that keeps every rule, of six lines.
const shortestTarget = `apiVersion: nodesmith.dev/v1alpha1
kind: PublishTarget
metadata: {name: lab}
spec:
  vsphere:
  - server: vc.example.com
`

func readTarget(text string, set ...string) (*v1alpha1.PublishTarget, error) {
	return v1alpha1.ReadPublishTarget("p.yaml", []byte(text), set, os.DirFS("../../examples/publish"))
}

func TestPublishExamplesAreValid(t *testing.T) {
	const dir = "../../examples/publish"
	paths, err := filepath.Glob(dir + "/*.yaml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("examples: %v, %v", paths, err)
	}
	s := compiledSchema(t, publishReference(t))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v1alpha1.ReadPublishTarget(path, data, nil, os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		if err := check(t, s, data); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if kind := v1alpha1.KindOf(data); kind != v1alpha1.PublishKind {
			t.Errorf("%s: kind %q", path, kind)
		}
	}
}

func publishReference(t *testing.T) *v1alpha1.Field {
	t.Helper()
	target, err := v1alpha1.PublishReference(examples.Publish)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestShortestTargetGetsDefaults(t *testing.T) {
	target, err := readTarget(shortestTarget, "spec.vsphere[0].datastore=ds")
	if err != nil {
		t.Fatal(err)
	}
	vc := target.Spec.VSphere[0]
	if vc.As != "template" || vc.Clones != "linked" || vc.Provisioning != "thin" || vc.Datastore != "ds" || vc.Replace {
		t.Errorf("got %+v", vc)
	}
	name, err := vc.TemplateName(v1alpha1.TemplateValues{OSDistro: "ubuntu", OSRelease: "2404", KubernetesVersion: "v1.34.0+vmware.1"})
	if err != nil || name != "ubuntu-2404-kube-v1.34.0+vmware.1" {
		t.Errorf("name %q, %v", name, err)
	}
}

func TestEveryFieldOfATargetHasTextAndExample(t *testing.T) {
	for f := range publishReference(t).All() {
		if f.Path != "" && (!strings.HasPrefix(f.Text, f.Name+" ") || !strings.HasSuffix(f.Text, ".") || f.Type == "" || f.Example == "") {
			t.Errorf("%s: %s, %q, %q", f.Path, f.Type, f.Text, f.Example)
		}
		if f.Type == "string" && f.Form == "" && f.Allowed == nil {
			t.Errorf("%s: nothing says what may stand there", f.Path)
		}
	}
}

func TestBadTargets(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"nothing", "  vsphere:\n  - server: vc.example.com\n", "  {}\n", "p.yaml:5:3: spec: is required; allowed: vsphere, aws, azure"},
		{"unknown section", "vsphere:", "vpshere:", `p.yaml:5:3: spec.vpshere: is not a field; allowed: vsphere, aws, azure; did you mean "vsphere"?`},
		{"password", "", "    password: secret\n", "p.yaml:7:5: spec.vsphere[0].password: is not a field"},
		{"NodeImage", "kind: PublishTarget", "kind: NodeImage", `p.yaml:2:7: kind: "NodeImage" is not a kind of file that nodesmith reads; allowed: PublishTarget`},
		{"URL with a password", "vc.example.com", "https://me:secret@vc.example.com", `spec.vsphere[0].server: "https://me:secret@vc.example.com" is not the address of a server`},
		{"both stores", "", "    datastore: a\n    datastoreCluster: b\n", `p.yaml:8:23: spec.vsphere[0].datastoreCluster: "b" is there besides datastore`},
		{"both pools", "", "    cluster: a\n    resourcePool: b\n", `spec.vsphere[0].resourcePool: "b" is there besides cluster`},
		{"item without a library", "", "    as: libraryItem\n", "p.yaml:6:5: spec.vsphere[0].library: is required"},
		{"library of a template", "", "    library: a\n", `spec.vsphere[0].library: "a" is of no use`},
		{"form", "", "    as: templete\n", `"templete" is not what an image can become; allowed: template, libraryItem; did you mean "template"?`},
		{"thumbprint", "", "    thumbprint: ab:cd\n", `"ab:cd" is not a thumbprint`},
		{"unknown value of a name", "", "    name: '{{.OSRelaese}}'\n", `{{.OSRelaese}} is not a value of templates; allowed: Image, OSDistro`},
		{"name that is none", "", "    name: a/b\n", `"a/b" is not the name of a virtual machine`},
		{"CA of a file that is not there", "", "    ca: {source: none.pem}\n", "none.pem"},
		{"hardware version", "", "    hardwareVersion: 9\n", `spec.vsphere[0].hardwareVersion: "9" is out of range`},
		{"two tags", "", "    tags: {a: 1, a: 2}\n", "is given twice"},
		{"region", "", "  aws: [{region: Frankfurt}]\n", `spec.aws[0].region: "Frankfurt" is not an AWS region`},
		{"a region twice", "", "  aws: [{region: eu-central-1, copyTo: [eu-west-1, eu-central-1]}]\n", `spec.aws[0].copyTo[1]: "eu-central-1" is there twice; first as spec.aws[0].region`},
		{"an AMI's name", "", "  aws: [{region: eu-central-1, name: 'node+{{.Image}}'}]\n", `spec.aws[0].name: "node+node" is not the beginning of an AMI's name`},
		{"a parameter", "", "  aws: [{region: eu-central-1, parameter: 'node image'}]\n", `spec.aws[0].parameter: "node image" is not the name of a parameter`},
		{"a role without a bucket", "", "  aws: [{region: eu-central-1, import: {role: vmimport}}]\n", `spec.aws[0].import.bucket: is required`},
		{"an account", "", "  aws: [{region: eu-central-1, share: {accounts: ['1234']}}]\n", `spec.aws[0].share.accounts[0]: "1234" is not an account`},
		{"everyone and encrypted", "", "  aws: [{region: eu-central-1, encrypt: true, share: {everyone: true, public: true}}]\n", `spec.aws[0].share.everyone: true is not possible`},
		{"everyone, said once", "", "  aws: [{region: eu-central-1, share: {everyone: true}}]\n", `spec.aws[0].share.public: is required`},
		{"a key's region", "", "  aws: [{region: eu-central-1, kmsKeys: {here: 'arn:aws:kms:eu-west-1:111122223333:alias/a'}}]\n", `spec.aws[0].kmsKeys[here]: "here" is not an AWS region`},
		{"list", "  - server: vc.example.com\n", "    server: vc.example.com\n", "spec.vsphere: a mapping is not a list"},
	} {
		text := shortestTarget + test.new
		if test.old != "" {
			text = strings.Replace(shortestTarget, test.old, test.new, 1)
		}
		_, err := readTarget(text)
		if err == nil || !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != fault.BadSpec {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

// An error in spec.publish of a NodeImage has the path that it has there.
func TestPublishOfANodeImageIsChecked(t *testing.T) {
	if _, err := read(shortest + "  publish:\n    vsphere: [{server: vc.example.com}]\n"); err != nil {
		t.Error(err)
	}
	_, err := read(shortest + "  publish:\n    vsphere: [{server: vc.example.com, clones: half}]\n")
	if err == nil || !strings.Contains(err.Error(), `s.yaml:9:48: spec.publish.vsphere[0].clones: "half" is not a kind of clone`) {
		t.Error(err)
	}
	image := mustRead(t, shortest)
	inputs := image.Inputs()
	image.Spec.Publish.AWS = []v1alpha1.AWSTarget{{Region: "eu-central-1"}}
	if image.Inputs() != inputs {
		t.Error("where an image is published makes its lock stale")
	}
}

func FuzzReadPublishTarget(f *testing.F) {
	f.Add(examples.Publish, "spec.vsphere[0].replace=true")
	f.Add([]byte(shortestTarget), "spec.aws[0]={region: eu-central-1}")
	f.Fuzz(func(t *testing.T, data []byte, flag string) {
		if target, err := v1alpha1.ReadPublishTarget("p.yaml", data, []string{flag}, nil); err == nil {
			if err := target.Validate(nil); err != nil {
				t.Errorf("valid as a file, not as an object: %v", err)
			}
		}
	})
}
