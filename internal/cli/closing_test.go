package cli

import (
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/pipeline"
)

// publish asks for what was proven, and only the store keeps it: the command that a
// build ends with names the image there.
func TestABuildEndsWithTheCommandThatProvesItsImageInTheStore(t *testing.T) {
	qemu := pipeline.Artifact{Image: "web:0123456789ab", Infrastructure: "qemu", Format: "qcow2", Path: "out/web-qemu.qcow2"}
	raw, vsphere, outside := qemu, qemu, qemu
	raw.Format, raw.Path = "raw", "out/web-qemu.raw"
	vsphere.Infrastructure, vsphere.Format, vsphere.Path = "vsphere", "ova", "out/web-vsphere.ova"
	outside.Image = ""
	for name, test := range map[string]struct {
		artifacts []pipeline.Artifact
		want      string
	}{
		"one file":                {[]pipeline.Artifact{qemu}, "verify web:0123456789ab --level boot"},
		"two formats":             {[]pipeline.Artifact{qemu, raw}, "verify web:0123456789ab --level boot"},
		"several infrastructures": {[]pipeline.Artifact{vsphere, qemu}, "verify web:0123456789ab/vsphere --level boot"},
		"not in the store":        {[]pipeline.Artifact{outside}, "verify out/web-qemu.qcow2 --level boot"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := printClosing(&b, &v1alpha1.NodeImage{}, test.artifacts, nil, 0); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), "\nProve that it boots: nodesmith "+test.want+"\n") {
				t.Error(b.String())
			}
		})
	}
}
