package ext4

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestNamesHashAsDebugfsSays(t *testing.T) {
	testenv.Need(t, "debugfs")
	seed := gpt.MustGUID("11111111-2222-8333-8444-666666666666")
	for _, name := range []string{"a", "hostname", "vmlinuz-6.1.0-13-amd64", strings.Repeat("n", 31), strings.Repeat("n", 32), strings.Repeat("xy", 127), "über-größe"} {
		out, err := exec.CommandContext(t.Context(), "debugfs", "-R", fmt.Sprintf("dx_hash -h half_md4 -s %s %s", seed, name)).Output()
		if err != nil {
			t.Fatal(err)
		}
		major, minor := nameHash(name, seed)
		if want := fmt.Sprintf("0x%x (minor 0x%x)", major, minor); !strings.Contains(string(out), want) {
			t.Errorf("%s: %s, debugfs says %s", name, want, out)
		}
	}
}
