package v1alpha1_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
	"nodesmith.dev/nodesmith/internal/fault"
)

func reference(t *testing.T) *v1alpha1.Field {
	t.Helper()
	image, err := v1alpha1.Reference(known, examples.Full, examples.Publish)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestEveryFieldHasTextTypeAndExample(t *testing.T) {
	for f := range reference(t).All() {
		if f.Path == "" {
			continue
		}
		if !strings.HasPrefix(f.Text, f.Name+" ") || !strings.HasSuffix(f.Text, ".") || len(strings.Fields(f.Text)) < 4 {
			t.Errorf("%s: the text %q is not a sentence about %s", f.Path, f.Text, f.Name)
		}
		if f.Type == "" || !strings.HasPrefix(f.Example, f.Name+":") {
			t.Errorf("%s: type %q, example %q", f.Path, f.Type, f.Example)
		}
		if f.Type == "string" && f.Form == "" && f.Allowed == nil {
			t.Errorf("%s: nothing says what may stand there", f.Path)
		}
		// Users know the names in files, not those in Go.
		if name := regexp.MustCompile(`\b(OS|BuildOnly|SignedBy|KernelArguments|SSHAuthorizedKeys|AllowUnverified)\b`).FindString(f.Text); name != "" {
			t.Errorf("%s: %s is a name of the program, not of the file: %q", f.Path, name, f.Text)
		}
	}
}

func TestReferenceHasTheDefaultsThatDefaultSets(t *testing.T) {
	want := map[string]string{
		"spec.architecture": "amd64", "spec.disk.size": "8Gi", "spec.disk.firmware": "[bios, uefi]",
		"spec.source.os.packages.archives[].components": "[main]", "spec.repositories[].components": "[main]", "spec.files[].mode": "0644",
		"spec.timeZone": "Etc/UTC", "spec.vsphere.name": "{{.Image}}-kube-{{.KubernetesVersion}}",
		"spec.vsphere.hardwareVersion": "15", "spec.vsphere.firmware": "efi", "spec.vsphere.cpus": "2",
		"spec.vsphere.memory": "2Gi", "spec.vsphere.network": "nic0", "spec.systemdUnits[].enable": "false", "spec.systemdUnits[].mask": "false",
		"spec.systemdUnits[].disable": "false",
		"spec.files[].owner":          "root:root", "spec.users[].shell": "/bin/bash", "spec.users[].sudo": "false",
		"spec.source.os.type": "packages", "spec.source.kubernetes.type": "goModules", "spec.repositories[].buildOnly": "false",
		"spec.containerRuntime.registryMirrors[].exclusive": "false", "spec.containerRuntime.registryMirrors[].mirrors[].overridePath": "false",
		"spec.containerRuntime.registryMirrors[].mirrors[].skipVerify": "false",
		"spec.proxy.inImage":                  "false",
		"spec.publish.vsphere[].provisioning": "thin", "spec.publish.vsphere[].as": "template", "spec.publish.vsphere[].clones": "linked",
		"spec.publish.vsphere[].name": "{{.OSDistro}}-{{.OSRelease}}-kube-{{.KubernetesVersion}}", "spec.publish.vsphere[].replace": "false",
		"spec.publish.azure[].cloud": "public", "spec.publish.azure[].upload.container": "nodesmith", "spec.publish.azure[].upload.parallel": "16",
		"spec.publish.azure[].gallery.definition": "{{.Image}}", "spec.publish.azure[].gallery.publisher": "nodesmith",
		"spec.publish.azure[].gallery.acceleratedNetworking": "true", "spec.publish.azure[].gallery.diskControllers": "[SCSI]",
		"spec.publish.azure[].gallery.regions[].replicas": "1", "spec.publish.azure[].gallery.regions[].storageType": "Standard_LRS",
		"spec.publish.azure[].gallery.regions[].excludeFromLatest": "false", "spec.publish.azure[].gallery.excludeFromLatest": "false",
		"spec.publish.azure[].gallery.sharing.community.public": "false", "spec.publish.azure[].managedImage.zoneResilient": "false",
		"spec.publish.azure[].managedImage.name": "{{.Image}}-{{.KubernetesVersion}}",
		"spec.files[].template":                  "false", "spec.directories[].mode": "0755", "spec.directories[].owner": "root:root",
		"spec.publish.aws[].name": "capa-ami-{{.OSDistro}}-{{.OSVersion}}-{{.KubernetesVersion}}", "spec.publish.aws[].encrypt": "false",
		"spec.publish.aws[].tpm": "false", "spec.publish.aws[].share.public": "false", "spec.publish.aws[].share.everyone": "false",
	}
	for f := range reference(t).All() {
		if f.Default != want[f.Path] {
			t.Errorf("%s: default %q, want %q", f.Path, f.Default, want[f.Path])
		}
		if f.Required && f.Default != "" {
			t.Errorf("%s has to be given and has a default", f.Path)
		}
	}
}

// What a file may give without quotes is not called a string, and the schema takes
// both.
func TestNumbersOfAccountsAreCalledNumbers(t *testing.T) {
	image := reference(t)
	for path, want := range map[string]string{
		"spec.users[].uid": "number", "spec.groups[].gid": "number", "spec.vsphere.cpus": "number", "spec.os.version": "string",
	} {
		if f, err := image.Find(path); err != nil || f.Type != want {
			t.Errorf("%s is a %q, want %q (%v)", path, f.Type, want, err)
		}
	}
	s := compiled(t)
	for _, number := range []string{"1000", `"1000"`} {
		if err := check(t, s, []byte(shortest+"  users: [{name: ada, uid: "+number+"}]\n")); err != nil {
			t.Errorf("uid: %s: %v", number, err)
		}
	}
}

func TestFindTakesPathsAsMessagesHaveThem(t *testing.T) {
	image := reference(t)
	for path, want := range map[string]string{
		"": "", "spec": "spec", "spec.files": "spec.files[]", "spec.files[].mode": "spec.files[].mode",
		"spec.files[3].mode": "spec.files[].mode", "spec.files.mode": "spec.files[].mode",
		"spec.sysctls[vm.swappiness]": "spec.sysctls", "metadata.name": "metadata.name",
	} {
		if f, err := image.Find(path); err != nil || f.Path != want {
			t.Errorf("Find(%q) = %+v, %v; want %s", path, f, err, want)
		}
	}
	for path, want := range map[string]string{
		"spec.dsik":        `spec.dsik: is not a field; allowed: os, `,
		"spec.disk.siez":   `spec.disk.siez: is not a field; allowed: size, headroom, firmware, fileSystems; did you mean "size"?`,
		"spec.disk.size.x": "spec.disk.size.x: is not a field: spec.disk.size is a size",
		"disk":             "disk: is not a field; allowed: apiVersion, kind, metadata, spec",
	} {
		_, err := image.Find(path)
		if err == nil || !strings.HasPrefix(err.Error(), want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("Find(%q): %v, want %s", path, err, want)
		}
	}
}

// compiled is the schema as another program understands it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	return compiledSchema(t, reference(t))
}

func compiledSchema(t *testing.T, of *v1alpha1.Field) *jsonschema.Schema {
	t.Helper()
	data, err := of.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // the schema has to say which one it is
	if err := c.AddResource("kind.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("kind.json") // checks it against the draft's own schema
	if err != nil {
		t.Fatal(err)
	}
	if s.DraftVersion != 2020 {
		t.Errorf("draft %d", s.DraftVersion)
	}
	return s
}

func check(t *testing.T, s *jsonschema.Schema, spec []byte) error {
	t.Helper()
	data, err := yaml.YAMLToJSON(spec)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(document)
}

func TestSchemaTakesTheExamples(t *testing.T) {
	s := compiled(t)
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) < 3 {
		t.Fatalf("examples: %q, %v", paths, err)
	}
	for _, path := range paths {
		spec, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, s, spec); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What the schema refuses, Validate refuses too, and the other way round for
// rules about a single field.
func TestSchemaAgreesWithValidate(t *testing.T) {
	s := compiled(t)
	for _, test := range []struct {
		name, old, new string
		valid          bool
	}{
		{"nothing else", "", "", true},
		{"integer for a version", `version: "12"`, "version: 12", true},
		{"size in bytes", "", "  disk: {size: 8589934592}\n", true},
		{"size with a fraction", "", "  disk: {size: 2.5Gi}\n", true},
		{"disk sized to its content", "", "  disk: {size: content, headroom: 512Mi}\n", true},
		{"file system in bytes", "", "  disk: {fileSystems: [{mountPoint: /data, size: 1073741824}]}\n", true},
		{"file system without a size", "", "  disk: {fileSystems: [{mountPoint: /data}]}\n", false},
		{"file system sized to a word", "", "  disk: {fileSystems: [{mountPoint: /data, size: contents}]}\n", false},
		{"mount point that leaves itself", "", "  disk: {fileSystems: [{mountPoint: /data/.., size: 1Gi}]}\n", false},
		{"unknown firmware", "", "  disk: {firmware: [bios, efi]}\n", false},
		{"integer of a sysctl", "", "  sysctls: {vm.swappiness: 10}\n", true},
		{"empty sysctl", "", `  sysctls: {kernel.core_pattern: ""}` + "\n", true},
		{"empty file", "", `  files: [{path: /a, content: ""}]` + "\n", true},
		{"prerelease", "v1.34.0", "v1.34.0-rc.1", true},
		{"vendor's version", "v1.34.0", "v1.33.5+vendor.1-fips", false},
		{"unknown field", "", "  diks: {size: 8Gi}\n", false},
		{"unknown field of an item", "", "  users: [{name: ada, id: 1}]\n", false},
		{"number of a user", "", "  users: [{name: ada, uid: 1000}]\n  groups: [{name: www, gid: 60000}]\n", true},
		{"number of a package's user", "", "  users: [{name: ada, uid: \"999\"}]\n", false},
		{"number of a dynamic user", "", "  groups: [{name: www, gid: \"60001\"}]\n", false},
		{"unknown distribution", "debian", "debain", false},
		{"unknown release", `"12"`, `"4"`, false},
		{"unknown infrastructure", "[qemu]", "[quemu]", false},
		{"no infrastructure", "[qemu]", "[]", false},
		{"no kubernetes", "  kubernetes: {version: v1.34.0}\n", "", false},
		{"version without v", "v1.34.0", "1.34.0", false},
		{"minor version alone", "v1.34.0", "v1.34", false},
		{"unsupported version", "v1.34.0", "v1.9.0", false},
		{"name with capitals", "name: node", "name: Node", false},
		{"list instead of a mapping", "", "  disk: [8Gi]\n", false},
		{"string instead of a list", "", "  packages: htop\n", false},
		{"string instead of a boolean", "", "  users: [{name: ada, sudo: \"true\"}]\n", false},
		{"file with both", "", "  files: [{path: /a, content: a, source: motd.txt}]\n", false},
		{"file with neither", "", "  files: [{path: /a}]\n", false},
		{"mode as a word", "", "  files: [{path: /a, content: a, mode: rw}]\n", false},
		{"argument with a space", "", "  kernelArguments: [a b]\n", false},
		{"package with a slash", "", "  packages: [htop/sid]\n", false},
		{"size of nothing known", "", "  disk: {size: 8GiB}\n", false},
		{"user in capitals", "", "  users: [{name: Ada}]\n", false},
	} {
		spec := shortest + test.new
		if test.old != "" {
			spec = strings.Replace(shortest, test.old, test.new, 1)
		}
		_, err := read(spec)
		if refused := check(t, s, []byte(spec)); (err == nil) != test.valid || (refused == nil) != test.valid {
			t.Errorf("%s: valid should be %v\nValidate: %v\nschema: %v", test.name, test.valid, err, refused)
		}
	}
}

// Go's names for characters are not those of ECMA-262, which JSON Schema has.
func TestPatternsOfTheSchemaAreNotGosAlone(t *testing.T) {
	data, err := reference(t).Schema()
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{`\\p`, `\\x{`, `(?i)`, `(?P<`, `[[:`} {
		if bytes.Contains(data, []byte(foreign)) {
			t.Errorf("the schema has a pattern with %s", foreign)
		}
	}
}
