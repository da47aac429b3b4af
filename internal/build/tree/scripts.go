package tree

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/script"
)

// scriptsDir is where a script finds itself.
const scriptsDir = "/.nodesmith/scripts"

// Script is one script to run in a tree.
type Script struct {
	// Name and Point are what the spec calls the script and its point.
	Name, Point string
	Text        string
	// Environment are the variables that say what the tree is.
	Environment []string
}

// Scripts returns the tree as the scripts leave it, each a step of its own: a
// changed one runs again, with those behind it.
func (b *Builder) Scripts(ctx context.Context, tree llb.State, epoch time.Time, scripts ...Script) (llb.State, error) {
	for _, s := range scripts {
		title := fmt.Sprintf("scripts: %s (%s)", s.Name, s.Point)
		file, err := b.inputs.Content(ctx, title, bundle.File{Name: s.Name, Mode: 0o755, Data: []byte(s.Text)})
		if err != nil {
			return llb.State{}, err
		}
		exec, err := b.run(ctx, step{
			title: title, program: "scripts", verb: "run", root: tree, epoch: epoch,
			config: script.Config{Name: s.Name, Point: s.Point, File: scriptsDir + "/" + s.Name, Environment: s.Environment},
			mounts: []llb.RunOption{llb.AddMount(scriptsDir, file, llb.Readonly)},
		})
		if err != nil {
			return llb.State{}, err
		}
		tree = exec.Root()
	}
	return tree, nil
}
