package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/report"
)

// maxValue is how many characters of a value the table shows.
const maxValue = 60

// printPlan says for people what a build would do.
func printPlan(w io.Writer, image *v1alpha1.NodeImage, p *report.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Plan for %s\n\n", titleOf(image))
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "  VALUE\tIS\tFROM")
	for _, v := range p.Values {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", v.Path, short(v.Value), from(v))
	}
	if p.Lock.State == report.LockFits {
		planSteps(t, p)
		planDownloads(t, p)
		fmt.Fprintln(t, "\n  FILE\tSTATE")
		for _, f := range p.Files {
			state := "written"
			if f.Kept {
				state = "there, and kept"
			}
			fmt.Fprintf(t, "  %s\t%s\n", f.Path, state)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteString("\n" + planSum(p) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// short is a value on one line of a table.
func short(value string) string {
	line, _, more := strings.Cut(value, "\n")
	if letters := []rune(line); len(letters) > maxValue {
		line, more = string(letters[:maxValue]), true
	}
	if more {
		line += "..."
	}
	if line == "" {
		return `""`
	}
	return line
}

// from says where a value came from.
func from(v report.Value) string {
	switch {
	case v.Origin == report.FromSpec || v.Origin == report.FromFlag:
		return v.Where
	case v.Where == "":
		return v.Origin
	}
	return v.Origin + " (" + v.Where + ")"
}

func planSteps(t io.Writer, p *report.Plan) {
	fmt.Fprintln(t, "\n  STEP\tLAST TIME\tSTATE")
	for _, s := range p.Steps {
		last := "-"
		if s.LastSeconds != nil {
			last = display.Seconds(*s.LastSeconds)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", s.Name, last, stepState(s))
	}
}

// stepState says what becomes of a step.
func stepState(s report.Step) string {
	switch s.State {
	case engine.Depends:
		return "runs, unless as before: " + strings.Join(s.DependsOn, ", ")
	case engine.Unneeded:
		return "not needed"
	case engine.Unknown:
		return "unknown: a BuildKit daemon can't be asked"
	case engine.Cached, engine.Runs:
	}
	return string(s.State)
}

// planDownloads shows what is fetched, input by input.
func planDownloads(t io.Writer, p *report.Plan) {
	if len(p.Downloads) == 0 {
		return
	}
	fmt.Fprintln(t, "\n  DOWNLOAD FOR\tFILES\tSIZE")
	type sum struct {
		files, unknown int
		size           int64
	}
	sums := map[string]*sum{}
	var inputs []string
	for _, d := range p.Downloads {
		s := sums[d.Input]
		if s == nil {
			s = &sum{}
			sums[d.Input], inputs = s, append(inputs, d.Input)
		}
		s.files++
		if d.SizeBytes == nil {
			s.unknown++
		} else {
			s.size += *d.SizeBytes
		}
	}
	for _, input := range inputs {
		s := sums[input]
		fmt.Fprintf(t, "  %s\t%d\t%s\n", input, s.files, sizeOf(s.size, s.unknown))
	}
}

// sizeOf is a size of files, some of which are unknown.
func sizeOf(size int64, unknown int) string {
	text := display.Bytes(size)
	if unknown > 0 {
		text += fmt.Sprintf(", and %d of unknown size", unknown)
	}
	return text
}

// planSum is the plan in a few lines.
func planSum(p *report.Plan) string {
	switch p.Lock.State {
	case report.LockMissing:
		return fmt.Sprintf("There is no lock (%s): what is built is decided when it is made. build makes it\n"+
			"first; to see the plan before, run %s", p.Lock.Path, p.Lock.Command)
	case report.LockStale:
		return fmt.Sprintf("The lock %s was made for other inputs than the NodeImage now has. build makes\n"+
			"a new one first and keeps what is asked for as before; to see the plan before, run %s", p.Lock.Path, p.Lock.Command)
	case report.LockFits:
	}
	var parts []string
	for _, of := range []struct {
		state engine.StepState
		text  string
	}{
		{engine.Runs, "run"}, {engine.Depends, "may run"}, {engine.Cached, "cached"}, {engine.Unneeded, "not needed"}, {engine.Unknown, "unknown"},
	} {
		if n := p.Sum.Steps[of.state]; n > 0 || of.state == engine.Runs {
			parts = append(parts, fmt.Sprintf("%d %s", n, of.text))
		}
	}
	text := fmt.Sprintf("Lock: %s\nSteps: %s", p.Lock.Path, strings.Join(parts, ", "))
	if p.Sum.LastSeconds > 0 {
		text += fmt.Sprintf("; those that run or may run took %s when they last ran", display.Seconds(p.Sum.LastSeconds))
	}
	if p.Sum.Downloads == 0 {
		return text + "\nDownloads: none"
	}
	return text + fmt.Sprintf("\nDownloads: %d files, %s", p.Sum.Downloads, sizeOf(p.Sum.DownloadBytes, p.Sum.UnknownSizes))
}
