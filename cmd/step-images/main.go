// Command step-images makes container images and places them in the node's
// containerd store, inside the build engine. It needs root, but neither network
// nor CAP_SYS_ADMIN.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/containerd/log"

	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-images", map[string]stepmain.Verb{
		"ask":   stepmain.Of(containerimage.Ask),
		"store": stepmain.Of(store),
	})
}

func store(ctx context.Context, config containerimage.Config, epoch time.Time) error {
	// containerd's libraries warn of what matters to a daemon only (fs-verity);
	// whatever fails is returned as an error anyway.
	if err := log.SetLevel("error"); err != nil {
		return err
	}
	placed, err := containerimage.Assemble(ctx, config, epoch, func(line string) { fmt.Println(line) })
	if err != nil || config.Record == "" {
		return err
	}
	record, err := json.MarshalIndent(placed, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(config.Record, record, 0o644)
}
