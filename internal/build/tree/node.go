package tree

import (
	"context"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/node"
)

// Mount points that step-node names itself.
const (
	targetDir = "/target"
	filesDir  = "/files"
)

// Merge returns the operating system with Kubernetes in it.
func (b *Builder) Merge(os llb.State, k Kubernetes) llb.State {
	return llb.Merge([]llb.State{os, k.Programs, k.Images}, llb.WithCustomName("node: merge layers"))
}

// Node configures a merged tree: the last and cheapest layer, and the only one
// that a user's file changes. files are those that config names by Source.
func (b *Builder) Node(ctx context.Context, merged llb.State, config node.Config, files []bundle.File, l *lock.Lock) (llb.State, error) {
	source, err := b.inputs.Content(ctx, "the spec's files", files...)
	if err != nil {
		return llb.State{}, err
	}
	return b.onNode(ctx, "node: configure", "apply", merged, config, l, llb.AddMount(filesDir, source, llb.Readonly))
}

// Seal takes away what scripts left behind in the tree of a node with that
// configuration, and looks whether it may still become an image.
func (b *Builder) Seal(ctx context.Context, tree llb.State, config node.Config, l *lock.Lock) (llb.State, error) {
	return b.onNode(ctx, "node: seal", "seal", tree, config, l)
}

// onNode runs a verb of step-node on a tree.
func (b *Builder) onNode(ctx context.Context, title, verb string, tree llb.State, config node.Config, l *lock.Lock, mounts ...llb.RunOption) (llb.State, error) {
	exec, err := b.run(ctx, step{
		title: title, program: "node", verb: verb, config: config, root: llb.Scratch(), epoch: l.Epoch, mounts: mounts,
	})
	if err != nil {
		return llb.State{}, err
	}
	return exec.AddMount(targetDir, tree, unread), nil
}
