package known

import (
	"slices"
	"testing"
)

func TestRelease(t *testing.T) {
	for _, test := range []struct{ name, version, architecture, codename string }{
		{"debian", "12", "amd64", "bookworm"},
		{"debian", "13", "amd64", "trixie"},
		{"ubuntu", "20.04", "amd64", "focal"},
		{"ubuntu", "22.04", "amd64", "jammy"},
		{"ubuntu", "24.04", "amd64", "noble"},
		{"debian", "12", "s390x", ""},
		{"debian", "4", "amd64", ""},
		{"debian", "bookworm", "amd64", ""},
		{"Debian", "12", "amd64", ""},
		{"", "", "", ""},
	} {
		got, ok := Release(test.name, test.version, test.architecture)
		if got.Codename != test.codename || ok != (test.codename != "") {
			t.Errorf("%s %s %s is %q, %v; want %q", test.name, test.version, test.architecture, got.Codename, ok, test.codename)
		}
	}
}

func TestEveryVersionIsARelease(t *testing.T) {
	versions := Versions()
	if !slices.Equal(versions["debian"], []string{"12", "13"}) {
		t.Errorf("debian has %q", versions["debian"])
	}
	if !slices.Equal(versions["ubuntu"], []string{"20.04", "22.04", "24.04"}) {
		t.Errorf("ubuntu has %q", versions["ubuntu"])
	}
	for name, list := range versions {
		for _, version := range list {
			if r, ok := Release(name, version, "amd64"); !ok || r.Version != version {
				t.Errorf("%s %s is no release", name, version)
			}
		}
	}
}

func TestToolsOfferWhatTheBuildCalls(t *testing.T) {
	r, ok := Tools("amd64")
	if !ok || len(r.Tools) == 0 || len(r.Compiler) == 0 || len(r.ImageBase) == 0 {
		t.Errorf("%s %s, %v, offers tools %q, compiler %q and image base %q", r.Distro, r.Version, ok, r.Tools, r.Compiler, r.ImageBase)
	}
	if _, ok := Tools("vax"); ok {
		t.Error("there are tools for a VAX")
	}
}
