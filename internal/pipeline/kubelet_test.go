package pipeline

import (
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestKubeletGetsItsFlagsAndItsDropIn(t *testing.T) {
	inputs := inputsOf(t, `  kubelet:
    extraArgs: ["--node-labels=a=b,c=d", --v=4]
    config: {maxPods: 200, evictionHard: {memory.available: 5%}}
`, nil)
	config, _, err := inputs.config(nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/etc/default/kubelet": `KUBELET_EXTRA_ARGS="--node-labels=a=b,c=d --v=4"` + "\n",
		"/etc/kubernetes/kubelet.conf.d/50-nodesmith.conf": "apiVersion: kubelet.config.k8s.io/v1beta1\nevictionHard:\n  memory.available: 5%\n" +
			"kind: KubeletConfiguration\nmaxPods: 200\n",
	} {
		if got := file(t, config, path).Content; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	unit := file(t, config, "/etc/systemd/system/kubelet.service.d/20-config-dir.conf").Content
	if want := `Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet.conf.d"`; !strings.Contains(unit, want) {
		t.Errorf("no %s in\n%s", want, unit)
	}
}

func TestAKubeletThatReadsNoDropInsIsRefused(t *testing.T) {
	inputs := inputsOf(t, "  kubelet: {config: {maxPods: 200}}\n", nil)
	inputs.lock.Kubernetes.Version = "v1.29.1+vendor.1"
	_, _, err := inputs.config(nil)
	if err == nil || fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), "kubelet v1.29.1+vendor.1 does not read drop-ins") {
		t.Errorf("error %v", err)
	}
}

func TestAProxyEntersTheImageIfTheNodeUsesIt(t *testing.T) {
	const proxy = "  proxy: {httpsProxy: 'http://proxy.example.com:3128', noProxy: [10.0.0.0/8, .svc], usedBy: [build, node]}\n"
	config, _, err := inputsOf(t, proxy, nil).config(nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "[Service]\nEnvironment=\"HTTPS_PROXY=http://proxy.example.com:3128\"\nEnvironment=\"NO_PROXY=10.0.0.0/8,.svc\"\n"
	for _, unit := range []string{"containerd", "kubelet"} {
		if got := file(t, config, "/etc/systemd/system/"+unit+".service.d/http-proxy.conf").Content; got != want {
			t.Errorf("%s: %q, want %q", unit, got, want)
		}
	}
	for _, users := range []string{"", ", usedBy: [build]"} {
		inputs := inputsOf(t, "  proxy: {httpProxy: 'http://proxy.example.com:3128'"+users+"}\n", nil)
		config, _, err := inputs.config(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range config.Files {
			if strings.Contains(f.Content, "proxy.example.com") {
				t.Errorf("%s names the proxy of the build", f.Path)
			}
		}
		if !inputs.image.Spec.Proxy.Building() {
			t.Error("the build does not use its proxy")
		}
	}
}
