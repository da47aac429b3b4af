// Command nodesmith builds, proves and publishes Kubernetes node VM images.
package main

import (
	"os"

	"nodesmith.dev/nodesmith/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
