package pipeline

import (
	"slices"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
)

// effective returns the settings of the shortest spec with more lines, by name, and
// fails unless each has a value, an origin and a name of its own.
func effective(t *testing.T, lines string, l *lock.Lock) map[string]Setting {
	t.Helper()
	list, err := Effective(imageOf(t, lines), l)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]Setting{}
	for _, s := range list {
		if _, twice := named[s.Name]; twice || s.Value == "" || s.Origin == "" {
			t.Errorf("%+v stands twice, or says nothing", s)
		}
		named[s.Name] = s
	}
	return named
}

func TestWhatNoSpecHoldsFollowsFromTables(t *testing.T) {
	got := effective(t, "", nil)
	for _, want := range []Setting{
		{"os.codename", "bookworm", FromDistribution, "Debian 12"},
		{"os.archives[0]", "http://deb.debian.org/debian bookworm main", FromDistribution, "Debian 12"},
		{"os.timeDaemon", "chrony", FromDistribution, "Debian 12"},
		{"kubernetes.kubeadmAPI", "kubeadm.k8s.io/v1beta4", FromReleaseTable, "Kubernetes 1.34"},
		{"infrastructures[qemu].format", "qcow2", FromInfrastructure, "qemu"},
		{"infrastructures[qemu].kernelArguments", "console=tty0 console=ttyS0,115200n8", FromInfrastructure, "qemu"},
	} {
		s := got[want.Name]
		if s.Origin != want.Origin || !strings.HasPrefix(s.Value, want.Value) || !strings.HasPrefix(s.Where, want.Where) {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	for name, s := range got {
		if s.Origin == FromLock || s.Origin == FromMachine {
			t.Errorf("%s: %+v without a lock and a machine", name, s)
		}
	}
}

// A setting that the spec itself has is one of its values, and of no table.
func TestWhatTheSpecSaysComesFromNoTable(t *testing.T) {
	const archives = "  source: {os: {packages: {archives: [{url: http://archive.example.com/debian, suites: [bookworm]}]}}}\n"
	for _, test := range []struct {
		name, lines, setting string
		want                 bool
	}{
		{"the distribution's archives", "", "os.archives[0]", true},
		{"the spec's archives", archives, "os.archives[0]", false},
		{"no time servers", "  infrastructures: [gcp]\n", "infrastructures[gcp].timeServers", true},
		{"the spec's time servers", "  infrastructures: [gcp]\n  ntpServers: [ntp.example.com]\n", "infrastructures[gcp].timeServers", false},
		{"an infrastructure that adds no packages", "", "infrastructures[qemu].packages", false},
		{"one that adds some", "  infrastructures: [vsphere]\n", "infrastructures[vsphere].packages", true},
		{"one that is not asked for", "", "infrastructures[vsphere].format", false},
	} {
		list, err := Effective(imageOf(t, test.lines), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(list, func(s Setting) bool { return s.Name == test.setting }); got != test.want {
			t.Errorf("%s: %s is among the settings: %v", test.name, test.setting, got)
		}
	}
}

// imageOf is the shortest spec, in which lines may name other infrastructures.
func imageOf(t *testing.T, lines string) *v1alpha1.NodeImage {
	t.Helper()
	if !strings.Contains(lines, "infrastructures:") {
		lines += "  infrastructures: [qemu]\n"
	}
	document, err := v1alpha1.Load("test", []byte("apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nmetadata: {name: web}\nspec:\n"+
		"  os: {distro: debian, version: \"12\"}\n  kubernetes: {version: v1.34.0}\n"+lines), nil)
	if err != nil {
		t.Fatal(err)
	}
	image, err := document.Validate(Known(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestWhatALockDecidesIsSaidToComeFromIt(t *testing.T) {
	l := &lock.Lock{
		Epoch: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		OS:    lock.PackageSet{Packages: make([]lock.Package, 257)},
		Kubernetes: lock.Kubernetes{
			Toolchain: lock.GoModule{Path: "golang.org/toolchain", Version: "v0.0.1-go1.24.6.linux-amd64"},
			Components: []lock.GoComponent{
				{Name: golang.Kubernetes, Module: "k8s.io/kubernetes", Version: "v1.34.0"},
				{Name: golang.Etcd, Module: "go.etcd.io/etcd/v3", Version: "v3.6.4"},
			},
		},
		ContainerImages: []lock.PulledImage{{Name: "registry.example.com/agent:v1", Digest: "sha256:00"}},
	}
	got := effective(t, "", l)
	for _, want := range []Setting{
		{"lock.goToolchain", "v0.0.1-go1.24.6.linux-amd64", FromLock, "golang.org/toolchain"},
		{"lock.components[etcd]", "v3.6.4", FromLock, "go.etcd.io/etcd/v3"},
		{"lock.epoch", "2026-01-02T02:04:05Z", FromLock, "the newest of the archives"},
		{"lock.osPackages", "257", FromLock, ""},
		{"lock.containerImages[registry.example.com/agent:v1]", "sha256:00", FromLock, "registry.example.com/agent:v1"},
	} {
		if got[want.Name] != want {
			t.Errorf("%+v, want %+v", got[want.Name], want)
		}
	}
	if s, ok := got["lock.components["+golang.Kubernetes+"]"]; ok {
		t.Errorf("the spec says which Kubernetes it is: %+v", s)
	}
}

func TestTheMachinesSettingsKeepWhereTheyComeFrom(t *testing.T) {
	got := OfMachine([]host.Value{{Name: "goProxy", Value: "https://proxy.example.com", Origin: "GOPROXY"}, {Name: "engine.address", Origin: "default"}})
	if want := []Setting{{"goProxy", "https://proxy.example.com", FromMachine, "GOPROXY"}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTablesThatHaveNoRowAreABadSpec(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.Spec){
		"a distribution":    func(s *v1alpha1.Spec) { s.OS.Version = "7" },
		"a Kubernetes":      func(s *v1alpha1.Spec) { s.Kubernetes.Version = "v1.12.0" },
		"an infrastructure": func(s *v1alpha1.Spec) { s.Infrastructures = []string{"moon"} },
	} {
		image := *imageOf(t, "")
		change(&image.Spec)
		if _, err := Effective(&image, nil); fault.KindOf(err) != fault.BadSpec {
			t.Errorf("%s: %v", name, err)
		}
	}
}
