package pipeline

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/internal/kubernetes"
)

func TestScriptsOfTheFirstBootReachTheNode(t *testing.T) {
	context := fstest.MapFS{"join.sh": {Data: []byte("#!/bin/bash\ntrue\n")}}
	inputs := inputsOf(t, `  scripts:
  - {name: late, when: final, content: "true"}
  - {name: hello, when: firstBoot, content: "echo hello"}
  - {name: join, when: firstBoot, source: join.sh}
`, context)
	config, _, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	if got := file(t, config, "/usr/local/lib/nodesmith/first-boot/join"); got.Content != "#!/bin/bash\ntrue\n" || got.Mode != 0o755 {
		t.Errorf("%+v", got)
	}
	unit := file(t, config, "/etc/systemd/system/first-boot-join.service").Content
	for _, want := range []string{"first-boot-hello.service\n", "!/var/lib/nodesmith/first-boot/join\n", `"IMAGE=web"`, `"KUBERNETES_VERSION=v1.34.0"`} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %s in\n%s", want, unit)
		}
	}
	for _, f := range config.Files {
		if strings.Contains(f.Path, "late") {
			t.Errorf("%s is on the node, though its script belongs to the build", f.Path)
		}
	}
}

// What a script is told decides when it runs again.
func TestScriptsAreToldNoMoreThanTheirPointKnows(t *testing.T) {
	inputs := inputsOf(t, "", nil)
	row, err := kubernetes.Lookup("v1.34.0")
	if err != nil {
		t.Fatal(err)
	}
	values := inputs.values(row)
	os := []string{"OS_DISTRO=debian", "OS_VERSION=12", "OS_CODENAME=bookworm"}
	kubernetes := []string{"KUBERNETES_VERSION=v1.34.0", "CONTAINERD_VERSION=v2.1.4", "PAUSE_IMAGE=registry.k8s.io/pause:3.10.1"}
	for point, test := range map[string]struct{ got, want []string }{
		"beforePackages":  {osValues(inputs.image, inputs.release).Environment(), slices.Concat(os, []string{"ARCHITECTURE=amd64"})},
		"afterKubernetes": {shared(values).Environment(), slices.Concat(os, kubernetes, []string{"ARCHITECTURE=amd64"})},
		"final":           {values.Environment(), slices.Concat([]string{"IMAGE=web"}, os, kubernetes, []string{"INFRASTRUCTURE=qemu", "ARCHITECTURE=amd64"})},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s: %q, want %q", point, test.got, test.want)
		}
	}
}
