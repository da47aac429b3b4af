// Command step-manifest reads what programs say of themselves, inside the build
// engine.
package main

import (
	"nodesmith.dev/nodesmith/internal/manifest/programs"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-manifest", map[string]stepmain.Verb{"programs": stepmain.Of(programs.Read)})
}
