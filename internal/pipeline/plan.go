package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress"
)

// Plan is what Build would do.
type Plan struct {
	// Steps are those of the graph in their order, then the writing of files.
	Steps     []PlannedStep
	Downloads []bundle.Download
	Files     []PlannedFile
}

// PlannedStep is a step of a build to come.
type PlannedStep struct {
	engine.PlannedStep
	Stage string
	// Took is how long the step took when it last ran; Exact says that it was this
	// one, with the same inputs, and not one of its name. Known is false if this
	// machine has not seen it.
	Took         time.Duration
	Exact, Known bool
}

// PlannedFile is a file in the output folder.
type PlannedFile struct {
	Infrastructure, Format, Path string
	// Kept says that the file is there and stays as it is.
	Kept bool
}

// Plan says what Build would do with the same arguments. It runs and downloads
// nothing; what it writes are small inputs of steps, in the cache.
func (p *Pipeline) Plan(ctx context.Context, image *v1alpha1.NodeImage, l *lock.Lock, buildContext fs.FS, dir string) (_ *Plan, err error) {
	into, err := p.store(image, l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	p.tidy = func() {} // or Close might remove what the plan says is cached
	inputs := p.inputs.Plan()
	dry := *p
	dry.builder = dry.builderOn(inputs)
	disks, err := dry.disks(ctx, image, l, into.lockDigest(), buildContext)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Downloads: inputs.Downloads()}
	var solve []llb.State
	var writing []engine.PlannedStep
	for _, d := range disks {
		asked, files, err := dry.asked(ctx, image, d, dir, into)
		if err != nil {
			return nil, err
		}
		solve, plan.Files = append(solve, asked.states...), append(plan.Files, files...)
		if len(asked.writes) > 0 {
			writing = append(writing, engine.PlannedStep{Name: writeTitle(d, asked.writes), State: engine.Runs})
		}
	}
	if p.engine.Exports() {
		solve = append(solve, engine.Exported(exportTitle, statesOf(disks)...))
	}
	steps, err := p.engine.Plan(ctx, "plan", solve, statesOf(disks))
	if err != nil {
		return nil, err
	}
	steps = append(steps, writing...)
	if missing := inputs.Missing(); len(missing) > 0 && into.mayHave(disks) {
		doubt(steps, missing)
	}
	plan.Steps = timed(steps, p.history())
	return plan, nil
}

// demand is what a disk asks for.
type demand struct {
	states []llb.State // of the engine
	writes []string    // names of files, and the store
}

// asked says what Build would ask the engine for, for the sake of one disk, and
// which files it would write.
func (p *Pipeline) asked(ctx context.Context, image *v1alpha1.NodeImage, d infrastructureDisk, dir string, into *storing) (demand, []PlannedFile, error) {
	var asked demand
	files, err := p.files(image, d, dir)
	if err != nil {
		return asked, nil, err
	}
	stored, err := into.find(ctx, d.infrastructure.Name, d.origin)
	if err != nil {
		return asked, nil, err
	}
	var planned []PlannedFile
	for _, f := range files {
		kept := f.origin.holds(f.path)
		planned = append(planned, PlannedFile{d.infrastructure.Name, f.format.Name, f.path, kept})
		if !kept {
			asked.writes = append(asked.writes, filepath.Base(f.path))
		}
	}
	if stored == nil {
		states, err := p.builder.ReadStates(ctx, reading(d), d.disk)
		if err != nil {
			return asked, nil, err
		}
		asked.states, asked.writes = append(asked.states, states...), append(asked.writes, storeTarget)
	}
	if p.manifestOrigin(d.origin).holds(manifestPath(d, dir)) {
		return asked, planned, nil
	}
	m, err := into.manifest(ctx, d.node, d.origin)
	if m == nil {
		asked.states = append(asked.states, p.builder.Records(d.kubernetes)...)
	}
	return asked, planned, err
}

// mayHave says whether the store has a disk for an infrastructure of the image,
// of whatever origin.
func (s *storing) mayHave(disks []infrastructureDisk) bool {
	for _, i := range s.earlier {
		for _, d := range disks {
			if i.Origins[d.infrastructure.Name] != "" {
				return true
			}
		}
	}
	return false
}

// doubt marks what will run as depending on inputs that are missing: the origin of
// a disk is that of its graph, and follows from all of its inputs. The store's disk
// may turn out to be the one that is asked for, and its files to be there.
func doubt(steps []engine.PlannedStep, missing []string) {
	for i := range steps {
		if s := &steps[i]; s.State == engine.Runs || s.State == engine.Depends {
			s.State = engine.Depends
			s.DependsOn = slices.Compact(slices.Sorted(slices.Values(slices.Concat(s.DependsOn, missing))))
		}
	}
}

// timed adds to steps how long they took.
func timed(steps []engine.PlannedStep, history *progress.History) []PlannedStep {
	var planned []PlannedStep
	for _, s := range steps {
		step := PlannedStep{PlannedStep: s, Stage: tree.StageOf(s.Name)}
		if s.Digest == "" {
			step.Stage = tree.StageFormats
		}
		step.Took, step.Exact, step.Known = history.Took(s.Digest, s.Name)
		planned = append(planned, step)
	}
	return planned
}
