package v1alpha1

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// The points at which a script runs.
const (
	BeforePackages  = "beforePackages"
	AfterKubernetes = "afterKubernetes"
	Final           = "final"
	FirstBoot       = "firstBoot"
)

// scriptPoints are the values of Script.When, in the order in which they come.
var scriptPoints = []string{BeforePackages, AfterKubernetes, Final, FirstBoot}

// Script is a shell script that the build or the node runs. Those of one point
// run in the order of the list. Exactly one of Content and Source is set.
type Script struct {
	// Name is what messages, progress and units call the script.
	Name string `json:"name"`
	// When is the point at which the script runs. beforePackages is on the
	// operating system, before spec.packages are installed; afterKubernetes is
	// on the operating system with Kubernetes in it; final is on the finished
	// tree with all that the spec configures; firstBoot is on the node, as
	// first-boot-NAME.service, once, before kubelet and bootstrap data start.
	When string `json:"when"`
	// Content is the script's text. Its first line may name an interpreter that
	// the tree has, as in #!/bin/bash; else /bin/sh -e runs it.
	Content string `json:"content,omitempty"`
	// Source is the path of the script in the build context, the folder of the
	// NodeImage: relative to it, with slashes.
	Source string `json:"source,omitempty"`
}

const (
	// FirstBootScripts is where the node has the scripts that its first boot runs.
	FirstBootScripts = "/usr/local/lib/nodesmith/first-boot"
	// FirstBootMarks is where the node notes which of them have run.
	FirstBootMarks = "/var/lib/nodesmith/first-boot"
)

// UnitName is the name of the unit that runs a script at first boot.
func (s Script) UnitName() string { return "first-boot-" + s.Name + ".service" }

// At returns the scripts of one point, in the order in which they run.
func (spec *Spec) At(point string) []Script {
	return slices.DeleteFunc(slices.Clone(spec.Scripts), func(s Script) bool { return s.When != point })
}

// Environment returns the values as variables for scripts, "KUBERNETES_VERSION=v1.34.0",
// those that have one.
func (v Values) Environment() []string {
	var environment []string
	for _, variable := range []struct{ name, value string }{
		{"IMAGE", v.Image},
		{"OS_DISTRO", v.OSDistro}, {"OS_VERSION", v.OSVersion}, {"OS_CODENAME", v.OSCodename},
		{"KUBERNETES_VERSION", v.KubernetesVersion}, {"CONTAINERD_VERSION", v.ContainerdVersion}, {"PAUSE_IMAGE", v.PauseImage},
		{"INFRASTRUCTURE", v.Infrastructure}, {"ARCHITECTURE", v.Architecture},
	} {
		if variable.value != "" {
			environment = append(environment, variable.name+"="+variable.value)
		}
	}
	return environment
}

// maxScript bounds what is read of a script's file.
const maxScript = 1 << 20

// Text returns the script, from the build context if it has a source.
func (s Script) Text(buildContext fs.FS) (string, error) {
	text := s.Content
	if s.Source != "" {
		var err error
		if text, err = readText(buildContext, s.Source, maxScript); err != nil {
			return "", err
		}
	}
	first, _, _ := strings.Cut(text, "\n")
	interpreter, named := strings.CutPrefix(first, "#!")
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("is empty")
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return "", errors.New("is not a script: it is not text")
	case strings.HasSuffix(first, "\r"):
		return "", errors.New("ends its lines as Windows does (CR LF), which no interpreter here understands")
	case named && !path.IsAbs(strings.TrimSpace(interpreter)):
		return "", fmt.Errorf("names its interpreter without an absolute path: %s", first)
	}
	return text, nil
}

// scripts checks the scripts, those in the build context as well.
func (c *checker) scripts(scripts []Script, buildContext fs.FS) {
	seen := map[string]string{}
	for i, script := range scripts {
		at := fmt.Sprintf("spec.scripts[%d]", i)
		if c.matches(at+".name", script.Name, scriptNameSyntax) && !c.repeated(seen, at+".name", script.Name, script.Name) && script.When == FirstBoot {
			c.claim(at+".name", path.Join(FirstBootScripts, script.Name), aFile)
			c.claim(at+".name", path.Join(UnitDirectory, script.UnitName()), aFile)
		}
		c.oneOf(at+".when", script.When, "is not a point at which scripts run", scriptPoints)
		field, found, ok := c.contentOrSource(at, script.Content, script.Source, buildContext)
		if !ok {
			continue
		}
		if script.Source == "" && !contentSyntax.ok(script.Content) {
			c.add(FieldError{Field: field, Found: found, Problem: "is not " + contentSyntax.what, Allowed: []string{contentSyntax.allowed}})
			continue
		}
		if _, err := script.Text(buildContext); err != nil {
			c.add(FieldError{Field: field, Found: found, Problem: err.Error(), Allowed: []string{scriptForm}})
		}
	}
}

// scriptForm describes the text of a script.
const scriptForm = "a shell script, or one whose first line is #! and an interpreter of the tree"
