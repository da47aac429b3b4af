package node

import (
	"os/exec"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestShellAssetsAreClean(t *testing.T) {
	testenv.Need(t, "shellcheck")
	const common = "assets/common/"
	for _, name := range []string{
		"etc/profile.d/kubernetes.sh",
		"usr/share/bash-completion/completions/crictl",
		"usr/share/bash-completion/completions/k",
		"usr/share/bash-completion/completions/kubeadm",
		"usr/share/bash-completion/completions/kubectl",
	} {
		if out, err := exec.CommandContext(t.Context(), "shellcheck", common+name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
