package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"nodesmith.dev/nodesmith/internal/build/steps"
	"nodesmith.dev/nodesmith/internal/bundle"
)

// Where a step finds its program and its configuration. Nothing of it stays in
// the tree: the engine removes mount points that it made.
const (
	programDir = "/.nodesmith/program"
	configDir  = "/.nodesmith/config"
)

// hostname is what a step sees, so that no package records the builder's.
const hostname = "localhost"

// step is one call of a step program.
type step struct {
	title   string
	program string // packages, install, golang, images, manifest, scripts, node, disk, pack
	verb    string
	config  any // marshalled to JSON
	root    llb.State
	mounts  []llb.RunOption
	// epoch is the newest time that the step's files may carry; 1970 if unset.
	epoch time.Time
}

// run adds the step to the graph.
func (b *Builder) run(ctx context.Context, s step) (llb.ExecState, error) {
	program, err := b.stepProgram(ctx, s.program)
	if err != nil {
		return llb.ExecState{}, err
	}
	text, err := json.MarshalIndent(s.config, "", "  ")
	if err != nil {
		return llb.ExecState{}, fmt.Errorf("%s: %w", s.title, err)
	}
	config, err := b.inputs.Content(ctx, "configuration: "+s.title, bundle.File{Name: "config.json", Mode: 0o644, Data: text})
	if err != nil {
		return llb.ExecState{}, err
	}
	if s.epoch.IsZero() {
		s.epoch = time.Unix(0, 0)
	}
	options := append([]llb.RunOption{
		llb.Args([]string{programDir + "/step", s.verb, configDir + "/config.json"}),
		llb.AddMount(programDir, program, llb.Readonly),
		llb.AddMount(configDir, config, llb.Readonly),
		llb.AddEnv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
		llb.AddEnv("SOURCE_DATE_EPOCH", strconv.FormatInt(s.epoch.Unix(), 10)),
		llb.AddEnv("TZ", "UTC"),
		llb.Network(pb.NetMode_NONE),
		llb.With(llb.Hostname(hostname)),
		llb.WithCustomName(s.title),
	}, s.mounts...)
	return s.root.Run(options...), nil
}

// stepProgram returns the bundle of a step program. It is read once, however many steps
// it has: its digest is that of megabytes.
func (b *Builder) stepProgram(ctx context.Context, name string) (llb.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if made, ok := b.stepPrograms[name]; ok {
		return made, nil
	}
	file, err := steps.Program(name)
	if err != nil {
		return llb.State{}, err
	}
	made, err := b.inputs.Content(ctx, "step-"+name, file)
	if err == nil {
		b.stepPrograms[name] = made
	}
	return made, err
}
