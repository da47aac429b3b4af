package tree

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/format"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/mapped"
	"nodesmith.dev/nodesmith/internal/format/pack"
)

// Reading are the names that the reading of a disk gives to what it runs.
type Reading struct {
	// Title is the solve's, Pack that of the step that packs the disk.
	Title, Pack string
}

// Read gives use a disk, until it returns. Where the engine is on this machine, the
// disk's files are read where they lie in it; from a Remote one it comes packed, as a file
// into folder. use may be called again after it failed.
func (b *Builder) Read(ctx context.Context, names Reading, d Disk, folder string, use func(format.Source) error) error {
	states, err := b.ReadStates(ctx, names, d)
	if err != nil {
		return err
	}
	if !b.engine.Remote() {
		return b.engine.Mounted(ctx, names.Title, states, func(dirs []string) error { return d.read(dirs[0], dirs[1:], use) })
	}
	if err := b.engine.Export(ctx, names.Title, states[0], folder); err != nil {
		return err
	}
	disk, err := formats.OpenFile(filepath.Join(folder, packedFile), pack.Format.Name)
	if err != nil {
		return err
	}
	return errors.Join(use(disk), disk.Close())
}

// Prepare runs the steps that Read would wait for.
func (b *Builder) Prepare(ctx context.Context, names Reading, d Disk) error {
	states, err := b.ReadStates(ctx, names, d)
	if err != nil {
		return err
	}
	return b.engine.Solve(ctx, names.Title, states[0])
}

// ReadStates are what Read asks of the engine: the map and the trees, or the packed
// disk.
func (b *Builder) ReadStates(ctx context.Context, names Reading, d Disk) ([]llb.State, error) {
	if b.engine.Remote() {
		packed, err := b.pack(ctx, names.Pack, d)
		return []llb.State{packed}, err
	}
	states := []llb.State{d.Map}
	for _, t := range d.trees {
		states = append(states, t.in)
	}
	return states, nil
}

// read gives use the disk whose map is in dir, and whose trees are in those states.
func (d Disk) read(dir string, states []string, use func(format.Source) error) error {
	trees := map[string]string{}
	for i, t := range d.trees {
		// A link of the node's on the way leads to where it does on the node.
		inside, err := continuity.RootPath(states[i], t.dir)
		if err != nil {
			return fmt.Errorf("the tree of %s: %w", t.dir, err)
		}
		trees[t.label] = inside
	}
	disk, err := mapped.Open(dir, trees)
	if err != nil {
		return err
	}
	return errors.Join(use(disk), disk.Close())
}
