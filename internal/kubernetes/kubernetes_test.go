package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestLookupFindsTheMinorVersion(t *testing.T) {
	for v, minor := range map[string]int{
		"v1.34.0": 34, "v1.34.7": 34, "v1.34.0-rc.1": 34, "v1.37.2": 37, "v1.27.5+vmware.1": 27, "v1.34.0+vmware.1-fips": 34,
	} {
		r, err := Lookup(v)
		if err != nil {
			t.Fatalf("Lookup(%q): %v", v, err)
		}
		if r.Minor != minor {
			t.Errorf("Lookup(%q).Minor = %d, want %d", v, r.Minor, minor)
		}
	}
}

var malformed = []string{"", "1.34.0", "v1.34", "v1", "v2.0.0", "v1.2.0", "v1.34+vmware.1", "v1.99999999999999999999.0", "latest"}

func TestLookupRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, v := range malformed {
		_, err := Lookup(v)
		refused(t, v, err)
	}
}

func TestOnlyPublishedVersionsAreCompiled(t *testing.T) {
	for _, v := range append([]string{"v1.27.16", "v1.33.5", "v1.34.0+vmware.1"}, malformed...) {
		_, err := Compilable(v)
		refused(t, v, err)
	}
	for _, minor := range Minors() {
		if r, err := Compilable(minor + ".0"); err != nil || r.ArchiveOnly {
			t.Errorf("Compilable(%s.0) = %+v, %v", minor, r, err)
		}
	}
	if want := []string{"v1.34", "v1.35", "v1.36", "v1.37"}; !slices.Equal(Minors(), want) {
		t.Errorf("Minors() = %q, want %q", Minors(), want)
	}
}

func refused(t *testing.T, version string, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.BadSpec {
		t.Errorf("%q: %v, want a bad spec", version, err)
	}
	if fault.RemedyOf(err) == "" {
		t.Errorf("%q: no remedy", version)
	}
}

func TestStagingVersion(t *testing.T) {
	for in, want := range map[string]string{
		"v1.34.0":      "v0.34.0",
		"v1.27.16":     "v0.27.16",
		"v1.35.0-rc.1": "v0.35.0-rc.1",
	} {
		if got, err := StagingVersion(in); err != nil || got != want {
			t.Errorf("StagingVersion(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// A row with a typo would fail half an hour into a build.
func TestEveryRowIsComplete(t *testing.T) {
	last := 0
	for _, r := range releases {
		if r.Minor <= last {
			t.Errorf("1.%d: rows must be in ascending order", r.Minor)
		}
		last = r.Minor
		for _, v := range []string{r.Containerd, r.Runc, r.CNIPlugins, r.CRITools} {
			if !semver.IsValid(v) || semver.Canonical(v) != v {
				t.Errorf("1.%d: %q is not a module version", r.Minor, v)
			}
		}
		if want := 2 + min(1, max(0, semver.Compare(semver.Major(r.Containerd), "v1"))); r.ContainerdConfig != want {
			t.Errorf("1.%d: containerd %s with configuration version %d", r.Minor, r.Containerd, r.ContainerdConfig)
		}
		if !strings.HasPrefix(r.Pause, "3.") {
			t.Errorf("1.%d: pause image %q", r.Minor, r.Pause)
		}
		if !strings.HasPrefix(r.KubeadmAPI, "kubeadm.k8s.io/") || r.ContainerdConfig < 2 {
			t.Errorf("1.%d: configuration versions %q, %d", r.Minor, r.KubeadmAPI, r.ContainerdConfig)
		}
		for _, line := range r.Sums {
			if f := strings.Fields(line); len(f) != 3 || !strings.HasPrefix(f[2], "h1:") {
				t.Errorf("1.%d: %q is not a line of go.sum", r.Minor, line)
			}
		}
	}
	if !Known("v1.34") || Known("v1.27") || Known("v1.34.0") || Known("1.34") {
		t.Error("Known takes minor versions as v1.34")
	}
}

// What kubeadm's source says of each minor version (see older).
func TestTheConfigurationOfANodeFollowsItsVersion(t *testing.T) {
	for _, test := range []struct {
		first, last int
		api, pause  string
		containerd  int
	}{
		{27, 30, "kubeadm.k8s.io/v1beta3", "3.9", 2},
		{31, 33, "kubeadm.k8s.io/v1beta4", "3.10", 2},
		{34, 35, "kubeadm.k8s.io/v1beta4", "3.10.1", 3},
		{36, 36, "kubeadm.k8s.io/v1beta4", "3.10.2", 3},
		{37, 37, "kubeadm.k8s.io/v1", "3.10.2", 3},
	} {
		for minor := test.first; minor <= test.last; minor++ {
			r, err := Lookup(fmt.Sprintf("v1.%d.5+vmware.1", minor))
			if err != nil || r.KubeadmAPI != test.api || r.Pause != test.pause || r.ContainerdConfig != test.containerd {
				t.Errorf("1.%d: %s, pause %s, containerd's configuration %d, %v; want %+v", minor, r.KubeadmAPI, r.Pause, r.ContainerdConfig, err, test)
			}
		}
	}
	for _, v := range []string{"v1.26.9", "v1.38.0"} {
		if _, err := Lookup(v); err == nil {
			t.Errorf("there is a row for %s", v)
		}
	}
}
