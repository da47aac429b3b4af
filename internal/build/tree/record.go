package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/manifest/programs"
)

// Where steps note what they did, and in which files.
const (
	recordDir    = "/.nodesmith/record"
	programsFile = "programs.json"
	placedFile   = "images.json"
)

// WhiteoutsFile is the list of a container store's whiteouts.
const WhiteoutsFile = "whiteouts.json"

// programs returns a state that holds what the compiled programs say of their
// own making.
func (b *Builder) programs(ctx context.Context, compiled map[string]llb.State) (llb.State, error) {
	config := programs.Config{Components: map[string]string{}, Out: recordDir + "/" + programsFile}
	var mounts []llb.RunOption
	for _, component := range slices.Sorted(maps.Keys(compiled)) {
		dir := binariesDir + "/" + component
		config.Components[component] = dir
		mounts = append(mounts, llb.AddMount(dir, compiled[component], llb.Readonly))
	}
	exec, err := b.run(ctx, step{
		title: "kubernetes: read what the programs are made of", program: "manifest", verb: "programs", config: config,
		root: llb.Scratch(), mounts: mounts,
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(recordDir, llb.Scratch()), nil
}

// Records returns the states that Record reads.
func (b *Builder) Records(k Kubernetes) []llb.State { return []llb.State{k.programs, k.Whiteouts} }

// Record returns what the steps noted of the programs and container images.
func (b *Builder) Record(ctx context.Context, k Kubernetes) (manifest.Record, error) {
	var record manifest.Record
	for _, note := range []struct {
		state llb.State
		file  string
		into  any
	}{{k.programs, programsFile, &record.Programs}, {k.Whiteouts, placedFile, &record.Images}} {
		data, err := b.engine.ReadFile(ctx, "manifest: "+note.file, note.state, note.file)
		if err != nil {
			return record, err
		}
		if err := json.Unmarshal(data, note.into); err != nil {
			return record, fmt.Errorf("the build's record %s: %w", note.file, err)
		}
	}
	return record, nil
}
