// Command step-install unpacks and installs Debian packages inside the build engine.
package main

import (
	"nodesmith.dev/nodesmith/internal/source/packages/install"
	"nodesmith.dev/nodesmith/internal/stepmain"
)

func main() {
	stepmain.Main("step-install", map[string]stepmain.Verb{
		"unpack":    stepmain.Of(install.Unpack),
		"begin":     stepmain.Of(install.Begin),
		"initramfs": stepmain.Of(install.Initramfs),
		"finish":    stepmain.Of(install.Finish),
		"packages":  stepmain.Of(install.Packages),
	})
}
