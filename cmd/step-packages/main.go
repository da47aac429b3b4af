// Command step-packages solves and unpacks Debian packages inside the build
// engine.
package main

import (
	"nodesmith.dev/nodesmith/internal/source/packages/step"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-packages", map[string]stepmain.Verb{
		"solve":  stepmain.Of(step.Solve),
		"unpack": stepmain.Of(step.Unpack),
	})
}
