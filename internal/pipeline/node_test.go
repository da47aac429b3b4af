package pipeline

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/node"
)

// inputsOf returns what decides the node of a NodeImage in YAML.
func inputsOf(t *testing.T, spec string, context fstest.MapFS) nodeInputs {
	t.Helper()
	document, err := v1alpha1.Load("test", []byte("apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nmetadata: {name: web}\nspec:\n"+
		"  os: {distro: debian, version: \"12\"}\n  kubernetes: {version: v1.34.0}\n  infrastructures: [qemu]\n"+spec), nil)
	if err != nil {
		t.Fatal(err)
	}
	image, err := document.Validate(Known(), context)
	if err != nil {
		t.Fatal(err)
	}
	from, err := sourcesOf(image, context)
	if err != nil {
		t.Fatal(err)
	}
	qemu, _ := infra.Find("qemu")
	return nodeInputs{
		image: image, release: from.target, repositories: from.kept, infrastructure: qemu, disk: diskConfig(image.Spec.Disk, size.MiB, "seed"), digest: "sha256:00", version: "v1",
		lock: &lock.Lock{Kubernetes: lock.Kubernetes{Version: "v1.34.0", Images: []lock.ContainerImage{
			{Name: "registry.k8s.io/kube-proxy:v1.34.0", Component: "kube-proxy"},
			{Name: "registry.k8s.io/pause:3.10.1", Component: "pause"},
		}}},
	}
}

// file returns the content of a file of the configuration.
func file(t *testing.T, config node.Config, path string) node.File {
	t.Helper()
	for _, f := range config.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("no %s", path)
	return node.File{}
}

func TestANodeBootsWhatTheDiskIsCalled(t *testing.T) {
	inputs := inputsOf(t, "  kernelArguments: [mitigations=off]\n", nil)
	config, files, err := inputs.config(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	uuid := inputs.disk.Identifiers.RootUUID().String()
	for path, wants := range map[string][]string{
		"/boot/grub/grub.cfg":                    {uuid, "/vmlinuz", "/initrd.img", "console=ttyS0,115200n8", "mitigations=off", "debian 12, Kubernetes v1.34.0"},
		"/etc/default/grub.d/50-nodesmith.cfg":   {"console=ttyS0,115200n8", "mitigations=off"},
		"/etc/fstab":                             {uuid, "/boot/efi"},
		"/etc/apt/sources.list.d/debian.sources": {"http://deb.debian.org/debian", "bookworm-security"},
		"/etc/containerd/config.toml":            {"registry.k8s.io/pause:3.10.1", "version = 3"},
	} {
		content := file(t, config, path).Content
		for _, want := range wants {
			if !strings.Contains(content, want) {
				t.Errorf("%s has no %q:\n%s", path, want, content)
			}
		}
	}
	if len(files) > 0 {
		t.Errorf("files %v, though the spec names none", files)
	}
}

func TestAUsersFilesComeLastAndFromTheContext(t *testing.T) {
	context := fstest.MapFS{"motd": {Data: []byte("hello\n")}}
	inputs := inputsOf(t, `  files:
  - {path: /etc/motd, source: motd, mode: "0600", owner: "root:adm"}
  - {path: /etc/crictl.yaml, content: "mine"}
  - {path: /etc/empty, content: ""}
  users: [{name: ops, sudo: true, groups: [adm]}]
  sysctls: {vm.swappiness: 1}
`, context)
	config, files, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	motd := file(t, config, "/etc/motd")
	if motd.Mode != 0o600 || motd.User != "root" || motd.Group != "adm" || motd.Source == "" || motd.Content != "" {
		t.Errorf("/etc/motd: %+v", motd)
	}
	if len(files) != 1 || files[0].Name != motd.Source || files[0].Path != "motd" || files[0].FS == nil {
		t.Errorf("files %+v", files)
	}
	if f := file(t, config, "/etc/crictl.yaml"); f.Content != "mine" {
		t.Errorf("the spec's file does not win: %+v", f)
	}
	if f := file(t, config, "/etc/empty"); f.Content != "" || f.Source != "" {
		t.Errorf("/etc/empty: %+v", f)
	}
	if len(config.Users) != 1 || config.Users[0].Name != "ops" || !config.Users[0].Sudo || config.Sysctls["vm.swappiness"] != "1" {
		t.Errorf("users %+v, sysctls %v", config.Users, config.Sysctls)
	}
}

func TestEverythingKnownHasARelease(t *testing.T) {
	for distro, versions := range Known().Distributions {
		for _, version := range versions {
			if _, ok := known.Release(distro, version, "amd64"); !ok {
				t.Errorf("no release of %s %s", distro, version)
			}
		}
	}
}

func TestEveryInfrastructureImportsAFormatThatIsWritten(t *testing.T) {
	for _, name := range infra.Names() {
		if i, _ := infra.Find(name); !slices.Contains(Known().Formats, i.Format) {
			t.Errorf("%s: no format %q", name, i.Format)
		}
	}
}
