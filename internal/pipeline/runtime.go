package pipeline

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/pelletier/go-toml/v2"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/node"
)

// runtimeConfig returns what the spec says about containerd.
func runtimeConfig(runtime v1alpha1.ContainerRuntime, row kubernetes.Release, buildContext fs.FS) (node.Config, error) {
	var registries []node.Registry
	for i, r := range runtime.RegistryMirrors {
		registry := node.Registry{Name: r.Registry, Exclusive: r.Exclusive}
		for j, m := range r.Mirrors {
			mirror := node.Mirror{URL: m.URL, Capabilities: m.Trust(), OverridePath: m.OverridePath, SkipVerify: m.SkipVerify}
			if (m.CA != v1alpha1.MirrorCA{}) {
				ca, err := m.CA.Read(buildContext)
				if err != nil {
					return node.Config{}, fault.New(fault.BadSpec, "", "spec.containerRuntime.registryMirrors[%d].mirrors[%d].ca: %w", i, j, err)
				}
				mirror.CA = ca.PEM
			}
			registry.Mirrors = append(registry.Mirrors, mirror)
		}
		registries = append(registries, registry)
	}
	config, err := node.Registries(v1alpha1.RegistryDirectory, registries)
	if err != nil {
		return config, err
	}
	for _, f := range runtime.Config {
		text, err := versioned(f.Content, row.ContainerdConfig)
		if err != nil {
			return config, err
		}
		config.Files = append(config.Files, node.File{Path: path.Join(v1alpha1.RuntimeConfigDirectory, f.Name), Content: text})
	}
	return config, nil
}

// versioned returns a file of containerd's configuration with its version: one
// without would be read as one of version 1.
func versioned(text string, version int) (string, error) {
	var given struct {
		Version *int `toml:"version"`
	}
	if err := toml.Unmarshal([]byte(text), &given); err != nil {
		return "", fault.New(fault.BadSpec, "", "spec.containerRuntime.config: %w", err)
	}
	if given.Version != nil {
		return text, nil
	}
	return fmt.Sprintf("version = %d\n\n%s", version, text), nil
}
