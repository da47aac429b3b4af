package v1alpha1_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
)

// known stands for what the program supports.
var known = v1alpha1.Known{
	Distributions:    map[string][]string{"debian": {"12", "13"}, "ubuntu": {"22.04", "24.04"}},
	Kubernetes:       []string{"v1.33", "v1.34"},
	ContainerdConfig: map[string]int{"v1.33": 2, "v1.34": 3},
	Infrastructures:  []string{"qemu", "vsphere", "aws", "azure", "openstack", "kubevirt", "proxmox", "nutanix", "gcp"},
	Architectures:    []string{"amd64"},
	Formats:          []string{"qcow2", "raw"},
}

// buildContext is where the tests' files[].source are.
var buildContext = fstest.MapFS{
	"motd.txt":           {Data: []byte("hello\n")},
	"conf/chrony.conf":   {Data: []byte("pool pool.ntp.org\n")},
	"conf/kubelet.conf":  {Data: []byte("\n")},
	"binary":             {Data: []byte("\x7fELF\x00")},
	"dos.sh":             {Data: []byte("echo a\r\n")},
	"motd.tmpl":          {Data: []byte("{{.Image}}\n{{.Imgae}}\n")},
	"tree/bin/run":       {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
	"tree/run":           {Data: []byte("bin/run"), Mode: fs.ModeSymlink},
	"tree/text":          {Data: []byte("text\n"), Mode: 0o600},
	"debian-archive.asc": {Data: []byte(stableKey)},
}

// shortest is a spec that keeps every rule, of seven lines.
const shortest = `apiVersion: nodesmith.dev/v1alpha1
kind: NodeImage
metadata: {name: node}
spec:
  os: {distro: debian, version: "12"}
  kubernetes: {version: v1.34.0}
  infrastructures: [qemu]
`

// specFields are the names of the fields of spec, as messages list them.
var specFields = func() string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[v1alpha1.Spec]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}()

// publicKey is a key whose private half was thrown away.
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHei8o05Ek9Ti9UWqRKf4ZhabDeRFGVbm1X8kSbW5/6A ada@example.org"

// read loads and validates a spec under the name s.yaml.
func read(spec string, set ...string) (*v1alpha1.NodeImage, error) {
	doc, err := v1alpha1.Load("s.yaml", []byte(spec), set)
	if err != nil {
		return nil, err
	}
	return doc.Validate(known, buildContext)
}

// mustRead is read for specs that keep every rule.
func mustRead(t *testing.T, spec string, set ...string) *v1alpha1.NodeImage {
	t.Helper()
	img, err := read(spec, set...)
	if err != nil {
		t.Fatalf("valid spec refused:\n%v\n--- spec\n%s\n--- flags %q", err, spec, set)
	}
	return img
}

func TestShortestSpecGetsDefaults(t *testing.T) {
	want := &v1alpha1.NodeImage{
		APIVersion: "nodesmith.dev/v1alpha1",
		Kind:       "NodeImage",
		Metadata:   v1alpha1.Metadata{Name: "node"},
		Spec: v1alpha1.Spec{
			OS:              v1alpha1.OS{Distro: "debian", Version: "12"},
			Kubernetes:      v1alpha1.Kubernetes{Version: "v1.34.0"},
			Infrastructures: []string{"qemu"},
			Source: v1alpha1.Source{
				OS:         v1alpha1.OSSource{Type: "packages"},
				Kubernetes: v1alpha1.KubernetesSource{Type: "goModules"},
			},
			Architecture: "amd64",
			TimeZone:     "Etc/UTC",
			Disk:         v1alpha1.Disk{Size: 8 << 30, Firmware: []string{"bios", "uefi"}},
			VSphere: v1alpha1.VSphere{
				Name: "{{.Image}}-kube-{{.KubernetesVersion}}", HardwareVersion: 15, Firmware: "efi", CPUs: 2, Memory: 2 << 30, Network: "nic0",
			},
		},
	}
	if got := mustRead(t, shortest); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestFilesAndUsersGetDefaults(t *testing.T) {
	img := mustRead(t, shortest+"  files: [{path: /etc/a, content: ''}]\n  users: [{name: ada}]\n")
	file, user := img.Spec.Files[0], img.Spec.Users[0]
	if file.Mode != "0644" || file.Owner != "root:root" || file.Content == nil || *file.Content != "" {
		t.Errorf("file is %+v", file)
	}
	if user.Shell != "/bin/bash" || user.Sudo {
		t.Errorf("user is %+v", user)
	}
}

func TestDefaultLeavesACopyAlone(t *testing.T) {
	img := v1alpha1.NodeImage{Spec: v1alpha1.Spec{Files: []v1alpha1.File{{Path: "/a"}}, Users: []v1alpha1.User{{Name: "ada"}}}}
	shallow := img
	shallow.Default()
	if img.Spec.Files[0].Mode != "" || img.Spec.Users[0].Shell != "" {
		t.Error("defaults of a copy reached the original's lists")
	}
	again := shallow
	again.Default()
	if !reflect.DeepEqual(again, shallow) {
		t.Error("the second Default changed something")
	}
}

func TestExamplesAreValid(t *testing.T) {
	const dir = "../../examples"
	paths, err := filepath.Glob(dir + "/*.yaml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("examples: %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := v1alpha1.Load(path, data, nil)
			if err != nil {
				t.Fatal(err)
			}
			img, err := doc.Validate(known, os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			if name := filepath.Base(path); !strings.HasPrefix(name, img.Metadata.Name) {
				t.Errorf("metadata.name is %q in %s", img.Metadata.Name, path)
			}
			roundTrip(t, img)
		})
	}
}

func TestFullExampleSetsEveryField(t *testing.T) {
	data, err := os.ReadFile("../../examples/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := v1alpha1.Load("full.yaml", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	img, err := doc.Validate(known, nil)
	if err != nil {
		t.Fatal(err)
	}
	unset := map[string]bool{}
	target, err := v1alpha1.ReadPublishTarget("full.yaml", examples.Publish, nil, os.DirFS("../../examples/publish"))
	if err != nil {
		t.Fatal(err)
	}
	img.Spec.Publish = target.Spec // written once, for both kinds
	collectUnset("", reflect.ValueOf(*img), unset)
	for path, missing := range unset {
		if missing {
			t.Errorf("examples/full.yaml does not set %s", path)
		}
	}
}

// collectUnset notes for each field, items of a list taken together, whether
// it is zero everywhere.
func collectUnset(path string, v reflect.Value, unset map[string]bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			collectUnset(path+"."+v.Type().Field(i).Name, v.Field(i), unset)
		}
	case reflect.Slice:
		before, seen := unset[path]
		unset[path] = v.Len() == 0 && (before || !seen)
		for i := range v.Len() {
			collectUnset(path+"[]", v.Index(i), unset)
		}
	default:
		before, seen := unset[path]
		unset[path] = v.IsZero() && (before || !seen)
	}
}

// roundTrip checks that a valid NodeImage, written out, reads as itself.
func roundTrip(t *testing.T, img *v1alpha1.NodeImage) {
	t.Helper()
	data, err := yaml.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := v1alpha1.Load("written.yaml", data, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	again, err := doc.Validate(known, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if !reflect.DeepEqual(img, again) {
		t.Fatalf("read %+v\nwant %+v\nfrom\n%s", again, img, data)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, extra := range map[string]string{
		"shortest":        "",
		"sizes":           "  disk: {size: 2560Mi}\n" + "  architecture: amd64\n",
		"numbers":         "  sysctls: {vm.swappiness: 10, kernel.panic: -1, a.b: '010', c.d: '', e.f: 'yes'}\n",
		"words of 1.1":    "  files: [{path: /a, content: 'no'}, {path: /b, content: '12:30'}, {path: /c, content: '<<'}, {path: /d, content: ~, source: motd.txt}]\n",
		"strange content": `  files: [{path: /a, content: "\t\x01\e\u2028\ufeff\t 'x' \"y\" \\ \r\n\n  z"}]` + "\n",
		"block":           "  files:\n  - path: /a\n    content: |+\n      a\n       b\n\n\n",
		"folded":          "  files:\n  - path: /a\n    content: >-\n      a\n      b\n",
		"user":            "  users: [{name: ada, sshAuthorizedKeys: ['" + publicKey + "'], groups: [adm], shell: /bin/sh, sudo: true}]\n",
		"kubelet":         "  kubelet: {extraArgs: [--v=4], config: {maxPods: 1e2, evictionHard: {a.b: 10%}, seccompDefault: true, registerWithTaints: [{key: a, value: ''}], cpuManagerPolicyOptions: {x: 'true', y: ~, z: 1.5}}}\n",
		"as JSON": "  files: [{\"path\": \"/a\", \"content\": \"😀\"}]\n" +
			"  packages: [curl=7.88.1-10+deb12u14, libstdc++6, libc6=2:1.0~rc1-1]\n",
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, mustRead(t, shortest+extra)) })
	}
}

func TestJSONIsAccepted(t *testing.T) {
	data, err := yaml.YAMLToJSON([]byte(shortest))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := mustRead(t, string(data)), mustRead(t, shortest); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestEmptyDocumentsAroundTheSpecDoNotCount(t *testing.T) {
	mustRead(t, "---\n# nothing\n---\n"+shortest+"---\n")
}

func TestAWholeVersionNumberNeedsNoQuotes(t *testing.T) {
	if img := mustRead(t, strings.Replace(shortest, `"12"`, "12", 1)); img.Spec.OS.Version != "12" {
		t.Errorf("version is %q", img.Spec.OS.Version)
	}
}

// stableKey is the Debian Stable Release Key (12/bookworm).
const stableKey = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
crf6AEq0SURlYmlhbiBTdGFibGUgUmVsZWFzZSBLZXkgKDEyL2Jvb2t3b3JtKSA8
ZGViaWFuLXJlbGVhc2VAbGlzdHMuZGViaWFuLm9yZz6IlgQTFggAPhYhBE1k/sEZ
wgKQZ9bnkfjSWFuHg9SBBQJjzrlTAhsDBQkPCZwABQsJCAcCBhUKCQgLAgQWAgMB
Ah4BAheAAAoJEPjSWFuHg9SBSgwBAP9qpeO5z1s5m4D4z3TcqDo1wez6DNya27QW
WoG/4oBsAQCEN8Z00DXagPHbwrvsY2t9BCsT+PgnSn9biobwX7bDDg==
=5NZE
-----END PGP PUBLIC KEY BLOCK-----
`

// debianKeys is a repository that is signed by Debian's keys.
const debianKeys = "{name: a, url: 'http://a', suite: b, signedBy: [{source: debian-archive.asc}]}"

// Whether the node keeps a repository decides nothing of what is locked.
func TestInputsLeaveOutWhatTheNodeKeeps(t *testing.T) {
	kept := mustRead(t, shortest+"  repositories: ["+debianKeys+"]\n")
	gone := mustRead(t, shortest+"  repositories: ["+debianKeys+"]\n", "spec.repositories[0].buildOnly=true")
	if kept.Inputs() != gone.Inputs() || !gone.Spec.Repositories[0].BuildOnly {
		t.Errorf("%+v, %+v", kept.Inputs(), gone.Inputs())
	}
}

func TestRepositoriesAndArchivesGetDefaults(t *testing.T) {
	img := mustRead(t, shortest+"  allowUnverified: ['http://flat']\n  source: {os: {packages: {archives: [{url: 'http://a', suites: [b]}]}}}\n"+
		"  repositories: ["+debianKeys+", {name: b, url: 'http://flat', suite: /}]\n")
	signed, flat := img.Spec.Repositories[0], img.Spec.Repositories[1]
	for name, got := range map[string][]string{
		"archive": img.Spec.Source.OS.Packages.Archives[0].Components, "repository": signed.Components,
	} {
		if !slices.Equal(got, []string{"main"}) {
			t.Errorf("%s: components %q", name, got)
		}
	}
	if len(flat.Components) > 0 || !flat.Flat() || !img.Spec.Unsigned(flat) || img.Spec.Unsigned(signed) {
		t.Errorf("%+v, %+v", signed, flat)
	}
}

func TestInputsFollowWhatDecidesEachPartOfTheLock(t *testing.T) {
	base := mustRead(t, shortest+"  packages: [htop, curl]\n").Inputs()
	// The digests are in people's lock files: they may change only with intent.
	if want := (v1alpha1.Inputs{
		OS:              "sha256:6beba5c319be08f7951d54273afde37a9600a8b27bf3f7d869defd855cbf0008",
		Packages:        "sha256:840fa07d148aea1f25dd54102b81e76d1da7d93b86ac07e8a9fa72c55295a362",
		ContainerImages: "sha256:7a822ccae77597a100cf9fc3c978900e078ba56fd821da9860739c68232ea417",
		Kubernetes:      "sha256:413c9a6fd328e16324a969a6f4d3f1e5dd5a7fc69229dfe6a3cb4aac375dcf38",
	}); base != want {
		t.Errorf("digests are %+v, were %+v", base, want)
	}
	for name, test := range map[string]struct {
		spec  string
		set   string
		stale []string
	}{
		"other order":          {"  packages: [curl, htop]\n", "", nil},
		"default written out":  {"  packages: [htop, curl]\n  architecture: amd64\n", "", nil},
		"name":                 {"  packages: [htop, curl]\n", "metadata.name=other", nil},
		"customization":        {"  packages: [htop, curl]\n  files: [{path: /a, content: a}]\n", "", nil},
		"infrastructure":       {"  packages: [htop, curl]\n", "spec.infrastructures[1]=vsphere", nil},
		"other kind of source": {"  packages: [htop, curl]\n  source: {os: {type: packages}, kubernetes: {type: goModules}}\n", "", nil},
		"empty lists":          {"  packages: [htop, curl]\n  repositories: []\n  allowUnverified: []\n  source: {os: {packages: {archives: []}}}\n", "", nil},
		"Kubernetes version":   {"  packages: [htop, curl]\n", "spec.kubernetes.version=v1.34.1", []string{"kubernetes"}},
		"OS version":           {"  packages: [htop, curl]\n", "spec.os.version=13", []string{"os"}},
		"package":              {"  packages: [htop]\n", "", []string{"packages"}},
		"package version":      {"  packages: [htop=1-1, curl]\n", "", []string{"packages"}},
		"archive":              {"  packages: [htop, curl]\n  source: {os: {packages: {archives: [{url: 'http://a', suites: [b]}]}}}\n", "", []string{"os"}},
		"repository":           {"  packages: [htop, curl]\n  repositories: [" + debianKeys + "]\n", "", []string{"packages"}},
		"container image":      {"  packages: [htop, curl]\n  containerImages: [{name: 'registry.example.com/agent:v1'}]\n", "", []string{"containerImages"}},
		"unverified":           {"  packages: [htop, curl]\n  allowUnverified: [example.com/m]\n", "", []string{"packages", "kubernetes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var set []string
			if test.set != "" {
				set = append(set, test.set)
			}
			got := mustRead(t, shortest+test.spec, set...).Inputs()
			var stale []string
			for part, differs := range map[string]bool{
				"os": got.OS != base.OS, "packages": got.Packages != base.Packages,
				"containerImages": got.ContainerImages != base.ContainerImages, "kubernetes": got.Kubernetes != base.Kubernetes,
			} {
				if differs {
					stale = append(stale, part)
				}
			}
			slices.Sort(stale)
			slices.Sort(test.stale)
			if !slices.Equal(stale, test.stale) {
				t.Errorf("stale are %q, want %q", stale, test.stale)
			}
		})
	}
}

func TestDisksGetTheDefaultsTheyNeed(t *testing.T) {
	if got := mustRead(t, shortest+"  disk: {firmware: [bios]}\n").Spec.VSphere.Firmware; got != "bios" {
		t.Errorf("a disk for a BIOS alone is in a virtual machine with %s", got)
	}
	got := mustRead(t, shortest+"  disk: {size: content, fileSystems: [{mountPoint: /var/lib/etcd, size: content}, {mountPoint: /data, size: 1Gi, label: scratch}]}\n").Spec.Disk
	want := v1alpha1.Disk{
		Size: v1alpha1.Content, Headroom: 2 << 30, Firmware: []string{"bios", "uefi"},
		FileSystems: []v1alpha1.FileSystem{
			{MountPoint: "/var/lib/etcd", Size: v1alpha1.Content, Headroom: 2 << 30, Label: "etcd"},
			{MountPoint: "/data", Size: 1 << 30, Label: "scratch"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
