package node

import (
	_ "embed"
	"path"
	"regexp"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/fault"
)

// FirstBootScript is a script that a node runs once, when it first boots.
type FirstBootScript struct {
	// Name is what the journal calls it.
	Name string
	// Unit is the name of the unit that runs it.
	Unit string
	// Script is its path on the node, Mark that of a file which says that it
	// has run.
	Script, Mark string
	Text         string
}

//go:embed first-boot.service.tmpl
var firstBootUnit string

// firstBoot is what the unit's template names.
type firstBoot struct {
	FirstBootScript
	// After is the unit of the script before this one.
	After string
	// Shell says that the script names no interpreter.
	Shell       bool
	Environment []string
}

// variable is what needs no escape between double quotes in a unit file.
var variable = regexp.MustCompile(`^[A-Z_]+=[A-Za-z0-9._:+@/-]*$`)

// FirstBoot returns the configuration of a node that runs the scripts, in their
// order, before kubelet and the bootstrap data start.
func FirstBoot(scripts []FirstBootScript, environment []string) (Config, error) {
	unit, err := template.New("first boot").Parse(firstBootUnit)
	if err != nil {
		return Config{}, err
	}
	for _, v := range environment {
		if !variable.MatchString(v) {
			return Config{}, fault.New(fault.BadSpec, "", "the variable %q of first boot scripts does not match %s", v, variable)
		}
	}
	var config Config
	after := ""
	for _, s := range scripts {
		var text strings.Builder
		err := unit.Execute(&text, firstBoot{
			FirstBootScript: s, After: after, Shell: !strings.HasPrefix(s.Text, "#!"), Environment: environment,
		})
		if err != nil {
			return Config{}, err
		}
		config = config.With(Config{
			Directories: []Directory{{Path: path.Dir(s.Mark)}},
			Files: []File{
				{Path: s.Script, Mode: 0o755, Content: s.Text},
				{Path: "/etc/systemd/system/" + s.Unit, Content: text.String()},
			},
			Units: Units{Enable: []string{s.Unit}},
		})
		after = s.Unit
	}
	return config, nil
}
