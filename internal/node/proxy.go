package node

import (
	_ "embed"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/fault"
)

//go:embed http-proxy.conf.tmpl
var proxyUnit string

// Proxied returns the configuration of a node on which the units of these
// drop-ins find the variables, "HTTPS_PROXY=http://proxy.example.com:3128".
func Proxied(dropIns, variables []string) (Config, error) {
	unit, err := template.New("unit").Parse(proxyUnit)
	if err != nil {
		return Config{}, err
	}
	for _, variable := range variables {
		if strings.ContainsAny(variable, "\"\\%\r\n") {
			return Config{}, fault.New(fault.BadSpec, "", "the variable %q can't be written to a unit file", variable)
		}
	}
	var text strings.Builder
	if err := unit.Execute(&text, variables); err != nil {
		return Config{}, err
	}
	var config Config
	for _, path := range dropIns {
		config.Files = append(config.Files, File{Path: path, Content: text.String()})
	}
	return config, nil
}
