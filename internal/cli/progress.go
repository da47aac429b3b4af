package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/console"
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/report"
)

// The values of --progress.
const (
	progressAuto  = "auto" // tty on a terminal that can show it, else plain
	progressTTY   = "tty"
	progressPlain = "plain"
	progressJSON  = "json"
	progressQuiet = "quiet"
)

var progressModes = []string{progressAuto, progressTTY, progressPlain, progressJSON, progressQuiet}

type progressFlag struct{ mode string }

func (f *progressFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.mode, "progress", progressModes[0], "how to show progress: `"+strings.Join(progressModes, "|")+"`")
}

func (f *progressFlag) check() error {
	if !slices.Contains(progressModes, f.mode) {
		return fault.New(fault.Usage, "", "--progress %q is not one of %s", f.mode, strings.Join(progressModes, ", "))
	}
	return nil
}

// show returns the display of what title says, in stages, on w. A live one says when
// ctx has ended.
func (f *progressFlag) show(ctx context.Context, w io.Writer, title string, stages []string) (display.Display, error) {
	began := time.Now()
	switch f.mode {
	case progressQuiet:
		return display.Quiet(), nil
	case progressJSON:
		return display.JSON(w), nil
	case progressPlain:
		return display.Plain(w, began), nil
	}
	on, can := terminalOf(w)
	env := host.ReadTerminal()
	switch {
	case f.mode == progressTTY && !can:
		return nil, fault.New(fault.Usage, "use --progress plain", "--progress tty: standard error is not a terminal")
	case !can || env.Dumb || f.mode == progressAuto && !env.UTF8:
		return display.Plain(w, began), nil
	}
	return display.Live(ctx, on, display.NewModel(title, began, stages), env.Colour), nil
}

// told has the command's end told as an event, where events are asked for: then
// they are all that standard error receives.
func (f *progressFlag) told(s streams, run func(c *cobra.Command, args []string) error) func(c *cobra.Command, args []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		began := time.Now()
		err := interruption(c.Context(), run(c, args))
		if f.mode != progressJSON {
			return err
		}
		event := report.OfEvent(progress.Event{Time: time.Now(), Type: report.Succeeded, Seconds: time.Since(began).Seconds()})
		if err != nil {
			event.Type, event.Error = report.Errored, err.Error()
			event.Remedy, event.ErrorKind, event.ExitCode = fault.RemedyOf(err), fault.KindOf(err).String(), fault.KindOf(err).ExitCode()
		}
		if failure := json.NewEncoder(s.err).Encode(event); err == nil {
			return failure
		}
		return toldError{err}
	}
}

// lines returns what takes lines for people: w, or where events are asked for a
// writer that makes messages of them.
func (f *progressFlag) lines(w io.Writer) io.Writer {
	if f.mode != progressJSON {
		return w
	}
	return messages{display.JSON(w)}
}

// messages makes a message of each line that is written to it in one piece.
type messages struct{ display display.Display }

func (m messages) Write(p []byte) (int, error) {
	for text := range strings.Lines(string(p)) {
		if text = strings.TrimSpace(text); text != "" {
			m.display.Event(progress.Event{Time: time.Now(), Type: progress.Message, Text: text})
		}
	}
	return len(p), nil
}

// toldError is an error that the user was told.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// terminal is a terminal that a live view is drawn on.
type terminal struct{ console.Console }

// terminalOf returns the terminal that w is, if it is one.
func terminalOf(w io.Writer) (terminal, bool) {
	file, ok := w.(*os.File)
	if !ok {
		return terminal{}, false
	}
	c, err := console.ConsoleFromFile(file)
	return terminal{c}, err == nil
}

// Size is the terminal's; that of a usual one where the system does not know it.
func (t terminal) Size() (display.Size, error) {
	size, err := t.Console.Size()
	if size.Width == 0 || size.Height == 0 {
		size.Width, size.Height = 80, 24
	}
	return display.Size{Columns: int(size.Width), Rows: int(size.Height)}, err
}
