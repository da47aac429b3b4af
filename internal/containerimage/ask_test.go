package containerimage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// TestAskComparesWhatAProgramPrints uses echo for kubeadm: it prints its
// arguments, which then are the "images".
func TestAskComparesWhatAProgramPrints(t *testing.T) {
	arguments := []string{"v1.34.0", "config", "images", "list", "--kubernetes-version"}
	out := filepath.Join(t.TempDir(), "images")
	config := AskConfig{Kubeadm: "/bin/echo", Version: "v1.34.0", Images: arguments, Out: out}
	if err := Ask(t.Context(), config, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(data), "config images list") {
		t.Errorf("wrote %q, %v", data, err)
	}
	config.Images, config.Out = arguments[1:], filepath.Join(t.TempDir(), "images")
	if err := Ask(t.Context(), config, time.Time{}); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("an image that the lock lacks: %v", err)
	}
	if _, err := os.Stat(config.Out); err == nil {
		t.Error("the list was written although it differs")
	}
	config.Kubeadm = "/bin/false"
	if err := Ask(t.Context(), config, time.Time{}); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("a kubeadm that fails: %v", err)
	}
}
