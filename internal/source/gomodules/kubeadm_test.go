package gomodules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// constants is an excerpt of kubeadm's constants.go of v1.34.0.
func constants(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "kubeadm-constants-v1.34.0.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestConstantsOfARelease(t *testing.T) {
	got, err := parseConstants([]byte(constants(t)), 34)
	if err != nil {
		t.Fatal(err)
	}
	if want := (addons{etcd: "3.6.4-0", coreDNS: "v1.12.1", pause: "3.10.1"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got.etcdModule() != "v3.6.4" {
		t.Errorf("etcd's module version is %q, want v3.6.4", got.etcdModule())
	}
}

func TestEtcdOfTheMinorVersionComesBeforeTheDefault(t *testing.T) {
	for minor, want := range map[int]string{31: "3.5.21-0", 34: "3.6.4-0", 99: "3.6.4-0"} {
		got, err := parseConstants([]byte(constants(t)), minor)
		if err != nil || got.etcd != want {
			t.Errorf("1.%d: etcd %q, %v; want %q", minor, got.etcd, err, want)
		}
	}
}

// The golden list is the output of "kubeadm config images list
// --kubernetes-version v1.34.0" of a kubeadm v1.34.0 that nodesmith compiled.
func TestImagesAreThoseOfKubeadm(t *testing.T) {
	a, err := parseConstants([]byte(constants(t)), 34)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, img := range a.images("v1.34.0") {
		got.WriteString(img.Name + "\n")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "kubeadm-images-v1.34.0.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestConstantsThatMakeNoSenseAreRefused(t *testing.T) {
	whole := constants(t)
	for name, src := range map[string]string{
		"empty":           "",
		"not Go":          "version: 3.6.4",
		"no pause":        strings.ReplaceAll(whole, "PauseVersion", "Pause"),
		"computed":        strings.ReplaceAll(whole, `PauseVersion = "3.10.1"`, `PauseVersion = "3." + "10"`),
		"no version":      strings.ReplaceAll(whole, `"v1.12.1"`, `"latest"`),
		"an image's name": strings.ReplaceAll(whole, `"3.10.1"`, `"3.10.1@sha256:00"`),
		"a path":          strings.ReplaceAll(whole, `"3.6.4-0"`, `"../../etcd"`),
	} {
		if a, err := parseConstants([]byte(src), 34); err == nil {
			t.Errorf("%s: accepted as %+v", name, a)
		}
	}
}

func FuzzConstants(f *testing.F) {
	f.Add([]byte(constants(f)), 34)
	f.Add([]byte(`package c; const DefaultEtcdVersion, x = "a", 1`), 0)
	f.Fuzz(func(t *testing.T, src []byte, minor int) {
		a, err := parseConstants(src, minor)
		if err != nil {
			return
		}
		for _, img := range a.images("v1.34.0") {
			if strings.ContainsAny(img.Name, " \n@") {
				t.Errorf("image %q", img.Name)
			}
		}
	})
}
