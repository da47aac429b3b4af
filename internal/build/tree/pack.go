package tree

import (
	"context"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/format/pack"
)

// PackedFile is the name of the file that Pack's state holds.
const PackedFile = "disk.packed"

// diskDir is where step-pack finds the disk.
const diskDir = "/.nodesmith/disk"

// Pack compresses a disk that Disk made, for an engine that is far away.
func (b *Builder) Pack(ctx context.Context, title string, disk llb.State) (llb.State, error) {
	exec, err := b.run(ctx, step{
		title: title, program: "pack", verb: "disk", root: llb.Scratch(),
		config: pack.Config{Disk: diskDir + "/" + DiskFile, Out: outDir + "/" + PackedFile},
		mounts: []llb.RunOption{llb.AddMount(diskDir, disk, llb.Readonly, unread)},
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(outDir, llb.Scratch()), nil
}
