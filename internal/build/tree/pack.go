package tree

import (
	"context"
	"path"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/format/pack"
)

// packedFile is the name of the file that pack's state holds.
const packedFile = "disk.packed"

// diskDir is where step-pack finds the disk's map.
const diskDir = "/.nodesmith/disk"

// pack compresses a disk, for an engine that is far away.
func (b *Builder) pack(ctx context.Context, title string, d Disk) (llb.State, error) {
	trees := map[string]string{}
	for _, t := range d.trees {
		trees[t.label] = t.at
	}
	exec, err := b.run(ctx, step{
		title: title, program: "pack", verb: "disk", root: llb.Scratch(),
		config: pack.Config{Disk: diskDir, Trees: trees, Out: path.Join(outDir, packedFile)},
		mounts: append(d.mounts(), llb.AddMount(diskDir, d.Map, llb.Readonly, unread)),
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(outDir, llb.Scratch()), nil
}
