package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fault"
)

// progressModes are the values of --progress: a live display on a terminal,
// lines elsewhere, or nothing.
var progressModes = []string{string(progressui.AutoMode), string(progressui.TtyMode), string(progressui.PlainMode), string(progressui.QuietMode)}

type progressFlag struct{ mode string }

func (f *progressFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.mode, "progress", progressModes[0], "how to show progress: `"+strings.Join(progressModes, "|")+"`")
}

// show returns how the engine's events are shown on w.
func (f *progressFlag) show(w io.Writer) (engine.Progress, error) {
	if !slices.Contains(progressModes, f.mode) {
		return nil, fault.New(fault.Usage, "", "--progress %q is not one of %s", f.mode, strings.Join(progressModes, ", "))
	}
	return func(ctx context.Context, title string, events chan *client.SolveStatus) error {
		display, err := progressui.NewDisplay(w, progressui.DisplayMode(f.mode), progressui.WithPhase(title))
		if err != nil {
			return fault.New(fault.Usage, "use --progress plain", "--progress %s: %w", f.mode, err)
		}
		_, err = display.UpdateFrom(ctx, events)
		return err
	}, nil
}

// log returns a function that writes lines of progress to w.
func (f *progressFlag) log(w io.Writer) func(format string, args ...any) {
	if f.mode == string(progressui.QuietMode) {
		return nil
	}
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}
