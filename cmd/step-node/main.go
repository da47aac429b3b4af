// Command step-node configures a node's tree, inside the build engine.
package main

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"time"

	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/node/apply"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

// Where the build graph mounts the tree and the user's files.
const (
	target = "/target"
	files  = "/files"
)

func main() {
	stepmain.Main("step-node", map[string]stepmain.Verb{"apply": verb(apply.Run), "seal": verb(apply.Seal)})
}

// verb makes a verb of what is done with a configuration.
func verb(do func(context.Context, apply.Options, node.Config) error) stepmain.Verb {
	return func(ctx context.Context, data []byte, epoch time.Time) error {
		config, err := node.Decode(bytes.NewReader(data))
		if err != nil {
			return err
		}
		// What is written gets explicit modes; nothing is to be taken away from them.
		syscall.Umask(0)
		return do(ctx, apply.Options{Target: target, Files: files, Time: epoch, Log: os.Stdout}, config)
	}
}
