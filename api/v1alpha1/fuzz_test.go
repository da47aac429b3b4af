package v1alpha1_test

import (
	"os"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
)

// FuzzLoad feeds Load and Validate with any file and flag. Neither may panic,
// and what is valid has to read as itself after it was written out.
func FuzzLoad(f *testing.F) {
	full, err := os.ReadFile("../../examples/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full, "spec.kubernetes.version=v1.34.1")
	f.Add([]byte(shortest), "spec.files[0]={path: /a, content: b}")
	f.Add([]byte(shortest), "spec.sysctls[vm.swappiness]=10")
	f.Add([]byte(shortest), "spec.users=[{name: ada, sudo: true}]")
	for _, test := range badSpecs {
		f.Add([]byte(shortest+test.new), "spec.disk.size=3Gi")
	}
	f.Fuzz(func(t *testing.T, data []byte, flag string) {
		doc, err := v1alpha1.Load("fuzz.yaml", data, []string{flag})
		if err != nil {
			return
		}
		img, err := doc.Validate(known, nil)
		if err != nil {
			_ = err.Error()
			return
		}
		img.Inputs()
		roundTrip(t, img)
	})
}

// FuzzTextSurvives puts any text where text may stand: what the rules accept
// has to read as itself after it was written out.
func FuzzTextSurvives(f *testing.F) {
	for _, text := range []string{"a\n", "\ta\n\n", " a: b # c", "<<", "~", "0644", "12:30", "\u2028", "- x", "=", "\x1b[1m"} {
		f.Add(text, "quiet", "htop=1:2-3", "node")
	}
	f.Fuzz(func(t *testing.T, content, argument, name, key string) {
		img := &v1alpha1.NodeImage{
			APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.Kind, Metadata: v1alpha1.Metadata{Name: "node"},
			Spec: v1alpha1.Spec{
				OS: v1alpha1.OS{Distro: "debian", Version: "12"}, Kubernetes: v1alpha1.Kubernetes{Version: "v1.34.0"},
				Infrastructures: []string{"qemu"},
			},
		}
		img.Default()
		// Each alone, since the rules refuse most texts for most fields.
		for _, set := range []func(*v1alpha1.Spec){
			func(s *v1alpha1.Spec) { s.Files = []v1alpha1.File{{Path: "/a", Content: &content}} },
			func(s *v1alpha1.Spec) { s.Files = []v1alpha1.File{{Path: "/" + name, Source: key}} },
			func(s *v1alpha1.Spec) { s.KernelArguments = []string{argument} },
			func(s *v1alpha1.Spec) { s.Packages = []string{name} },
			func(s *v1alpha1.Spec) { s.Sysctls = map[string]string{"a." + key: argument} },
			func(s *v1alpha1.Spec) { s.Users = []v1alpha1.User{{Name: key, Groups: []string{name}}} },
			func(s *v1alpha1.Spec) { s.AllowUnverified = []string{argument} },
		} {
			changed := *img
			set(&changed.Spec)
			changed.Default()
			if changed.Validate(known, nil) == nil {
				roundTrip(t, &changed)
			}
		}
	})
}
