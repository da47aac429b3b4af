package containerimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// AskConfig is the input of Ask.
type AskConfig struct {
	Kubeadm string   `json:"kubeadm"` // path of the program
	Version string   `json:"version"` // v1.34.0
	Images  []string `json:"images"`  // references that the lock names
	Out     string   `json:"out"`     // file that is written when they are the same
}

// Ask holds the images that the lock names, read from kubeadm's source, against
// those that the compiled kubeadm asks for, and writes the list.
func Ask(ctx context.Context, config AskConfig, _ time.Time) error {
	out, err := exec.CommandContext(ctx, config.Kubeadm, "config", "images", "list", "--kubernetes-version", config.Version).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("kubeadm config images list: %w", err)
	}
	asked, locked := strings.Fields(string(out)), slices.Clone(config.Images)
	slices.Sort(asked)
	slices.Sort(locked)
	if !slices.Equal(asked, locked) {
		return fault.New(fault.BadSpec, "lock again", "kubeadm %s asks for the images %q, the lock names %q", config.Version, asked, locked)
	}
	return os.WriteFile(config.Out, out, 0o644)
}
