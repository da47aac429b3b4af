package pipeline

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/lock"
)

// What an image asks for in other words is locked anew, and what lies on it.
func TestKeepTakesThePartsThatAreAskedForAsBefore(t *testing.T) {
	const base = "  packages: [htop]\n"
	image := imageOf(t, base)
	set := func(name string) lock.PackageSet { return lock.PackageSet{Packages: []lock.Package{{Name: name}}} }
	earlier := &lock.Lock{
		Inputs: image.Inputs(), Architecture: "amd64", Tools: set("grub-common"), Compiler: set("gcc"), OS: set("libc6"), Packages: set("htop"),
		Infrastructures: []lock.Infrastructure{{Name: "qemu"}}, ContainerImages: []lock.PulledImage{{Name: "agent"}},
		Kubernetes: lock.Kubernetes{Version: "v1.34.0", ImageBase: set("nft")},
	}
	for name, test := range map[string]struct {
		spec, stays string
	}{
		"nothing differs": {base, "the build's tools, the operating system, the spec's packages, qemu, container images, Kubernetes v1.34.0"},
		"another package": {"  packages: [jq]\n", "the build's tools, the operating system, container images, Kubernetes v1.34.0"},
		"another archive": {
			base + "  source: {os: {packages: {archives: [{url: http://archive.example.com/debian, suites: [bookworm]}]}}}\n",
			"the build's tools, container images, Kubernetes v1.34.0",
		},
		"another image":            {base + "  containerImages: [{name: registry.example.com/a:v1}]\n", "the build's tools, the operating system, the spec's packages, qemu, Kubernetes v1.34.0"},
		"something is unverified":  {base + "  allowUnverified: [example.com/m]\n", "the build's tools, the operating system, container images"},
		"only the disk is another": {base + "  disk: {size: 9Gi}\n", "the build's tools, the operating system, the spec's packages, qemu, container images, Kubernetes v1.34.0"},
	} {
		t.Run(name, func(t *testing.T) {
			image := imageOf(t, test.spec)
			kept := keep(earlier, image)
			if kept.String() != test.stays {
				t.Errorf("what stays: %s; want %s", kept, test.stays)
			}
			l := kept.start(image)
			for part, has := range map[string][2]bool{
				"tools":            {len(l.Tools.Packages) > 0, true},
				"compiler":         {len(l.Compiler.Packages) > 0, true},
				"the images' base": {len(l.Kubernetes.ImageBase.Packages) > 0, true},
				"os":               {len(l.OS.Packages) > 0, kept.os},
				"packages":         {len(l.Packages.Packages) > 0, kept.packages},
				"infrastructures":  {len(l.Infrastructures) > 0, kept.packages},
				"container images": {len(l.ContainerImages) > 0, kept.images},
				"Kubernetes":       {l.Kubernetes.Version != "", kept.kubernetes},
			} {
				if has[0] != has[1] {
					t.Errorf("the new lock has %s: %t, want %t", part, has[0], has[1])
				}
			}
			if l.Inputs != image.Inputs() {
				t.Error("the new lock is stale")
			}
		})
	}
	for name, earlier := range map[string]*lock.Lock{"no lock": nil, "one for another architecture": {Inputs: image.Inputs(), Architecture: "arm64"}} {
		if kept := keep(earlier, image); kept != (keeping{}) {
			t.Errorf("of %s stays %s", name, kept)
		}
	}
}
