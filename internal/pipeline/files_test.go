package pipeline

import (
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/internal/node"
)

func TestTemplatesGetTheValuesOfTheirImage(t *testing.T) {
	context := fstest.MapFS{"issue.tmpl": {Data: []byte("{{.OSDistro}} {{.OSVersion}} ({{.OSCodename}}), {{.ContainerdVersion}}\n")}}
	inputs := inputsOf(t, `  files:
  - {path: /etc/a, template: true, content: "{{.Image}} {{.KubernetesVersion}} {{.PauseImage}} {{.Infrastructure}} {{.Architecture}}"}
  - {path: /etc/issue, template: true, source: issue.tmpl, mode: "0640"}
  - {path: /etc/c, content: "{{.Image}}"}
`, context)
	config, files, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/etc/a":     "web v1.34.0 registry.k8s.io/pause:3.10.1 qemu amd64",
		"/etc/issue": "debian 12 (bookworm), v2.1.4\n",
		"/etc/c":     "{{.Image}}",
	} {
		if got := file(t, config, path); got.Content != want || got.Source != "" {
			t.Errorf("%s: %+v, want %q", path, got, want)
		}
	}
	if len(files) > 0 {
		t.Errorf("files %v, though templates are rendered here", files)
	}
}

func TestAFolderOfTheContextIsCopiedWithLinksAndExecutableFiles(t *testing.T) {
	context := fstest.MapFS{
		"tree/bin/run": {Data: []byte("#!/bin/sh\n"), Mode: 0o700},
		"tree/run":     {Data: []byte("bin/run"), Mode: fs.ModeSymlink | 0o777},
		"tree/.hidden": {Data: []byte("x"), Mode: 0o600},
	}
	inputs := inputsOf(t, `  directories:
  - {path: /srv/tree, source: tree, mode: "0750", owner: "root:adm"}
  - {path: /srv/empty}
  links: [{path: /usr/local/bin/run, target: ../../../srv/tree/run}]
`, context)
	config, files, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	adm := node.Owner{User: "root", Group: "adm"}
	for _, want := range []node.Directory{
		{Path: "/srv/tree", Mode: 0o750, Owner: adm}, {Path: "/srv/tree/bin", Mode: 0o755, Owner: adm},
		{Path: "/srv/empty", Mode: 0o755, Owner: node.Owner{User: "root", Group: "root"}},
	} {
		if !slices.Contains(config.Directories, want) {
			t.Errorf("no %+v in %+v", want, config.Directories)
		}
	}
	for _, want := range []node.Link{{Path: "/srv/tree/run", Target: "bin/run"}, {Path: "/usr/local/bin/run", Target: "../../../srv/tree/run"}} {
		if !slices.Contains(config.Links, want) {
			t.Errorf("no %+v in %+v", want, config.Links)
		}
	}
	run, hidden := file(t, config, "/srv/tree/bin/run"), file(t, config, "/srv/tree/.hidden")
	if run.Mode != 0o755 || hidden.Mode != 0o644 || run.Owner != adm {
		t.Errorf("%+v, %+v", run, hidden)
	}
	if len(files) != 2 || files[0].Name != hidden.Source || files[0].Path != "tree/.hidden" || files[1].Name != run.Source {
		t.Errorf("files %+v", files)
	}
}
