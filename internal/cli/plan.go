package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/report"
)

// planning is what the flags of plan say.
type planning struct {
	specFlags
	engine         engineFlags
	output         string
	locked, asJSON bool
}

func planCommand(s streams) *cobra.Command {
	var p planning
	c := &cobra.Command{
		Use: "plan -f FILE", Short: "Say what a build would do, and do none of it", Args: noArguments,
		Long: `Say what nodesmith build would do with the same flags: every value that it goes by
and where that came from, which steps run and which are cached, how long each took
when it last ran on this machine, what is downloaded and how large it is, and which
files are written.

Nothing is run, downloaded or written but small inputs of steps, in the cache. A step
whose inputs are made by a step that runs may turn out to be cached after all: the
plan says on what that depends. Without a lock that fits there is no plan, only the
values: run nodesmith lock first. What a BuildKit daemon (--engine) has it does not say.

Standard output receives the plan, as text or with --json as one document, a
PlanReport (nodesmith schema --kind PlanReport).`,
		Example: `  nodesmith plan -f examples/debian-12.yaml -o out
  nodesmith plan -f examples/debian-12.yaml --set spec.packages=[strace]
  nodesmith plan -f examples/debian-12.yaml --json | jq -r '.steps[] | select(.state != "cached") | .name'`,
		RunE: func(c *cobra.Command, _ []string) error { return p.run(c, s) },
	}
	p.register(c)
	p.registerInfrastructure(c)
	p.engine.register(c)
	c.Flags().StringVarP(&p.output, "output", "o", "out", "the `DIR` that would receive the image files")
	c.Flags().BoolVar(&p.asJSON, "json", false, "print one JSON document, a PlanReport, on standard output")
	c.Flags().BoolVar(&p.locked, "locked", false, "fail if there is no lock that fits the NodeImage")
	return c
}

func (p *planning) run(c *cobra.Command, s streams) (err error) {
	spec, err := p.read(c.InOrStdin())
	if err != nil {
		return err
	}
	defer closing(&err, spec)
	found, err := lookForLock(spec.image, p.locked, spec.dir, p.output)
	if err != nil {
		return err
	}
	settings, err := settingsFor(spec.image, p.engine)
	if err != nil {
		return err
	}
	machine, err := p.engine.machine(c.Context(), settings)
	if err != nil {
		return err
	}
	document, err := planned(c.Context(), spec, found, settings, machine, p.output, s.err)
	if err != nil {
		return err
	}
	if found.lock == nil {
		document.Lock.Command = "nodesmith lock -f " + p.file
	}
	if found.stale != nil { // which build keeps parts of
		document.Lock.Command += " --keep"
		if dir := filepath.Dir(found.path); dir != filepath.Clean(spec.dir) {
			document.Lock.Command += " -o " + dir
		}
	}
	if p.asJSON {
		return printJSON(s.out, document)
	}
	return printPlan(s.out, spec.image, document)
}

// machine lists the machine's settings, in which the flags' engine stands already.
func (f engineFlags) machine(ctx context.Context, settings host.Settings) ([]host.Value, error) {
	values, _, err := host.Effective(ctx, settings)
	for i := range values {
		if values[i].Name == "engine.address" && f.engine.Address != "" {
			values[i].Origin = "--engine"
		}
	}
	return values, err
}

// planned is the plan of a build. What takes a while is said on w.
func planned(ctx context.Context, spec *spec, found foundLock, settings host.Settings, machine []host.Value, output string, w io.Writer) (_ *report.Plan, err error) {
	document := &report.Plan{
		APIVersion: report.APIVersion, Kind: report.PlanKind, Image: spec.image.Metadata.Name,
		Lock:  report.Lock{State: report.LockFits, Path: found.path},
		Steps: []report.Step{}, Downloads: []report.Download{}, Files: []report.PlannedFile{},
	}
	effective, err := pipeline.Effective(spec.image, found.lock)
	if err != nil {
		return nil, err
	}
	document.Values = valuesOf(spec, append(effective, pipeline.OfMachine(machine)...))
	if found.lock == nil {
		if document.Lock.State = report.LockMissing; found.stale != nil {
			document.Lock.State = report.LockStale
		}
		document.AddUp()
		return document, nil
	}
	p, err := pipeline.Open(ctx, pipeline.Options{
		Settings: settings, Version: programVersion(),
		Progress: func(e progress.Event) {
			if e.Type == progress.Message {
				fmt.Fprintln(w, e.Text)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	defer closing(&err, p)
	plan, err := p.Plan(ctx, spec.image, found.lock, spec.context(), output)
	if err != nil {
		return nil, err
	}
	fill(document, plan)
	return document, nil
}

// valuesOf lists the spec's values, then the settings.
func valuesOf(spec *spec, settings []pipeline.Setting) []report.Value {
	var values []report.Value
	for _, v := range spec.document.Values(spec.image) {
		value := report.Value{Path: v.Path, Value: v.Text, Origin: report.FromDefault}
		switch {
		case v.Flag != "":
			value.Origin, value.Where = report.FromFlag, v.Flag
		case v.File != "":
			value.Origin, value.Where = report.FromSpec, fmt.Sprintf("%s:%d:%d", v.File, v.Line, v.Column)
		}
		values = append(values, value)
	}
	for _, s := range settings {
		values = append(values, report.Value{Path: s.Name, Value: s.Value, Origin: string(s.Origin), Where: s.Where})
	}
	return values
}

// fill puts a plan into its document.
func fill(document *report.Plan, plan *pipeline.Plan) {
	for _, s := range plan.Steps {
		step := report.Step{Stage: s.Stage, Name: s.Name, State: s.State, DependsOn: s.DependsOn, LastSame: s.Exact}
		if s.Known {
			took := s.Took.Seconds()
			step.LastSeconds = &took
		}
		document.Steps = append(document.Steps, step)
	}
	for _, d := range plan.Downloads {
		download := report.Download{Input: d.Input, Name: d.Name}
		if d.SizeBytes >= 0 {
			download.SizeBytes = &d.SizeBytes
		}
		document.Downloads = append(document.Downloads, download)
	}
	for _, f := range plan.Files {
		document.Files = append(document.Files, report.PlannedFile(f))
	}
	document.AddUp()
}
