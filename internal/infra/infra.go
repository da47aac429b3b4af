// Package infra is what differs between infrastructures, as data.
//
// What comes in is an infrastructure's name; what goes out is what an image
// needs to run there and nowhere else: software by the names of package distro,
// kernel arguments, and the configuration (package node) of a small layer.
package infra

import (
	"embed"
	"io/fs"
	"path"

	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/node"
)

// Infrastructure is a place where nodes run.
type Infrastructure struct {
	Name   string
	Format string // of the file that nodes are made from, by its name in format/known
	// KernelArguments are what its consoles and disks need.
	KernelArguments []string
	// Hardware is what the image has drivers for. Where the infrastructure's own
	// can't be had elsewhere (Hyper-V's, EC2's network card), it is virtio.
	Hardware Hardware
	// Software is installed on top of what every node has.
	Software []distro.Software
	// TimeServers are the infrastructure's own; empty for the distribution's.
	TimeServers []string

	modules []string // loaded at every boot
	units   node.Units
	cuts    map[string][]node.Cut // by distribution family
	// stages is what it takes where one process runs all stages of cloud-init.
	stages node.Config
}

// assets holds each infrastructure's files below its name: common, one layer for
// each distribution family, and single-process, for where one process runs all
// stages of cloud-init.
//
//go:embed all:assets
var assets embed.FS

// Node returns what the infrastructure adds to the configuration of a node of
// that release.
func (i Infrastructure) Node(release distro.Release) (node.Config, error) {
	config := node.Config{KernelModules: i.modules, Units: i.units, Cuts: i.cuts[release.Family]}
	layers := []string{"common", release.Family}
	if release.SingleProcess {
		layers = append(layers, "single-process")
		config = config.With(i.stages)
	}
	for _, layer := range layers {
		dir := path.Join("assets", i.Name, layer)
		if _, err := fs.Stat(assets, dir); err != nil {
			continue
		}
		files, err := node.FilesBelow(assets, dir)
		if err != nil {
			return node.Config{}, err
		}
		config = config.With(node.Config{Files: files})
	}
	return config, nil
}

// Find returns the infrastructure of that name.
func Find(name string) (Infrastructure, bool) {
	for _, i := range all {
		if i.Name == name {
			return i, true
		}
	}
	return Infrastructure{}, false
}

// Names lists every infrastructure.
func Names() []string {
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}
