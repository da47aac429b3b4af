package node

import (
	_ "embed"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/fault"
)

// kubeletDefaults holds, for each distribution family, the file from which
// kubelet's unit takes KUBELET_EXTRA_ARGS: that of its packages.
var kubeletDefaults = map[string]string{"debian": "/etc/default/kubelet"}

// KubeletArguments returns the configuration of a node of that family whose
// kubelet gets these flags behind all others; an empty one for none.
func KubeletArguments(family string, arguments []string) (Config, error) {
	if len(arguments) == 0 {
		return Config{}, nil
	}
	file, ok := kubeletDefaults[family]
	if !ok {
		return Config{}, fault.New(fault.BadSpec, "", "no file of kubelet's flags is known for distribution family %q; there are: %s",
			family, strings.Join(slices.Sorted(maps.Keys(kubeletDefaults)), ", "))
	}
	// Split at white space once the quotes are gone (systemd.exec(5), EnvironmentFile=).
	for _, argument := range arguments {
		if strings.ContainsAny(argument, " \t\r\n\"'`\\") || argument == "" {
			return Config{}, fault.New(fault.BadSpec, "", "kubelet's flag %q can't be written to %s", argument, file)
		}
	}
	return Config{Files: []File{{Path: file, Content: `KUBELET_EXTRA_ARGS="` + strings.Join(arguments, " ") + "\"\n"}}}, nil
}

// configDirUnit is a drop-in of kubelet's unit: it sorts behind kubeadm's.
const configDirUnit = "/etc/systemd/system/kubelet.service.d/20-config-dir.conf"

//go:embed kubelet-config-dir.conf.tmpl
var configDir string

// KubeletDropIn returns the configuration of a node whose kubelet reads file
// after the one that kubeadm writes.
func KubeletDropIn(file, text string) (Config, error) {
	unit, err := template.New("unit").Parse(configDir)
	if err != nil {
		return Config{}, err
	}
	var extended strings.Builder
	err = unit.Execute(&extended, path.Dir(file))
	return Config{Files: []File{{Path: configDirUnit, Content: extended.String()}, {Path: file, Content: text}}}, err
}
