package pipeline

import (
	"strings"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/kubernetes"
)

func TestContainerdGetsMirrorsAndFilesOfItsVersion(t *testing.T) {
	context := fstest.MapFS{"ca.pem": {Data: []byte(exampleCertificate)}}
	inputs := inputsOf(t, `  containerRuntime:
    registryMirrors:
    - {registry: "registry.example.com:5000", mirrors: [{url: "https://mirror.example.com", ca: {source: ca.pem}}]}
    config:
    - {name: a.toml, content: "[metrics]\naddress = 'localhost:1338'\n"}
    - {name: b.toml, content: "version = 3\noom_score = -998\n"}
`, context)
	config, _, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	const registry = "/etc/containerd/certs.d/registry.example.com:5000/"
	for path, want := range map[string]string{
		"/etc/containerd/conf.d/a.toml": "version = 3\n\n[metrics]\naddress = 'localhost:1338'\n",
		"/etc/containerd/conf.d/b.toml": "version = 3\noom_score = -998\n",
		registry + "mirror-0.pem":       exampleCertificate,
	} {
		if got := file(t, config, path).Content; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	hosts := file(t, config, registry+"hosts.toml").Content
	if !strings.Contains(hosts, `capabilities = ["pull", "resolve"]`) || !strings.Contains(hosts, `ca = "`+registry+`mirror-0.pem"`) {
		t.Errorf("hosts.toml:\n%s", hosts)
	}
}

func TestAnOlderContainerdGetsItsOwnVersion(t *testing.T) {
	row, err := kubernetes.Lookup("v1.27.5+vendor.1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := runtimeConfig(v1alpha1.ContainerRuntime{Config: []v1alpha1.RuntimeConfig{{Name: "a.toml", Content: "oom_score = 1"}}}, row, nil)
	if err != nil || config.Files[0].Content != "version = 2\n\noom_score = 1" {
		t.Errorf("%+v, %v", config.Files, err)
	}
}
