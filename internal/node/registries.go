package node

import (
	_ "embed"
	"fmt"
	"path"
	"strings"
	"text/template"
)

// Registry is a registry and where containerd looks for its images.
type Registry struct {
	// Name is what images of it begin with: docker.io.
	Name string
	// Mirrors are asked in this order; at least one.
	Mirrors []Mirror
	// Exclusive says that the registry itself is never asked.
	Exclusive bool
}

// Mirror is a server with images of a registry.
type Mirror struct {
	URL string
	// Capabilities are some of pull, resolve and push.
	Capabilities             []string
	OverridePath, SkipVerify bool
	// CA is one PEM block, or "".
	CA string
}

//go:embed hosts.toml.tmpl
var hostsFile string

// hosts is what the template of hosts.toml names.
type hosts struct {
	Registry string
	// Server is asked last; without one containerd asks the registry itself.
	Server *host
	Hosts  []host
}

type host struct {
	Mirror
	// CAFile is where the certificate lies on the node.
	CAFile string
}

// Registries returns the configuration of a node whose containerd finds images
// of the registries at their mirrors. dir is where containerd looks for them.
func Registries(dir string, registries []Registry) (Config, error) {
	file, err := template.New("hosts.toml").Parse(hostsFile)
	if err != nil {
		return Config{}, err
	}
	var config Config
	for _, registry := range registries {
		values := hosts{Registry: registry.Name}
		for i, mirror := range registry.Mirrors {
			h := host{Mirror: mirror}
			if mirror.CA != "" {
				h.CAFile = path.Join(dir, registry.Name, fmt.Sprintf("mirror-%d.pem", i))
				config.Files = append(config.Files, File{Path: h.CAFile, Content: mirror.CA})
			}
			values.Hosts = append(values.Hosts, h)
		}
		if registry.Exclusive {
			last := len(values.Hosts) - 1
			values.Server, values.Hosts = &values.Hosts[last], values.Hosts[:last]
		}
		var text strings.Builder
		if err := file.Execute(&text, values); err != nil {
			return Config{}, err
		}
		config.Files = append(config.Files, File{Path: path.Join(dir, registry.Name, "hosts.toml"), Content: text.String()})
	}
	return config, nil
}
