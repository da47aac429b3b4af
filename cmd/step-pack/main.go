// Command step-pack compresses a disk for the way out of the build engine,
// inside it.
package main

import (
	"nodesmith.dev/nodesmith/internal/format/pack"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-pack", map[string]stepmain.Verb{"disk": stepmain.Of(pack.Disk)})
}
