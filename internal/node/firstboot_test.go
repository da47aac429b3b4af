package node

import (
	"slices"
	"strings"
	"testing"
)

func TestFirstBootScriptsRunOnceAndInOrder(t *testing.T) {
	scripts := []FirstBootScript{
		{Name: "a", Unit: "first-boot-a.service", Script: "/s/a", Mark: "/m/a", Text: "true\n"},
		{Name: "b", Unit: "first-boot-b.service", Script: "/s/b", Mark: "/m/b", Text: "#!/bin/bash\ntrue\n"},
	}
	config, err := FirstBoot(scripts, []string{"IMAGE=web", "PAUSE_IMAGE=registry.k8s.io/pause:3.10.1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	contents := map[string]string{}
	for _, f := range config.Files {
		contents[f.Path] = f.Content
		if executable := strings.HasPrefix(f.Path, "/s/"); executable != (f.Mode == 0o755) {
			t.Errorf("%s has the mode %s", f.Path, f.Mode)
		}
	}
	for path, wants := range map[string][]string{
		"/s/a": {"true\n"},
		"/etc/systemd/system/first-boot-a.service": {
			"ConditionPathExists=!/m/a\n", "ExecStart=/bin/sh -e /s/a\n", "ExecStartPost=/usr/bin/touch /m/a\n", "After=network-online.target cloud-config.service containerd.service\n",
			"Before=cloud-final.service kubelet.service\n", `Environment="IMAGE=web"`, `Environment="PAUSE_IMAGE=registry.k8s.io/pause:3.10.1"`,
		},
		"/etc/systemd/system/first-boot-b.service": {"ExecStart=/s/b\n", "containerd.service first-boot-a.service\n"},
	} {
		for _, want := range wants {
			if !strings.Contains(contents[path], want) {
				t.Errorf("%s has no %q:\n%s", path, want, contents[path])
			}
		}
	}
	if !slices.Equal(config.Units.Enable, []string{"first-boot-a.service", "first-boot-b.service"}) {
		t.Errorf("enabled: %q", config.Units.Enable)
	}
	if len(config.Directories) != 1 || config.Directories[0].Path != "/m" {
		t.Errorf("directories %+v: the marks need one", config.Directories)
	}
}

func TestFirstBootRefusesWhatAUnitFileWouldExpand(t *testing.T) {
	if _, err := FirstBoot(nil, []string{`IMAGE=%n"`}); err == nil || !strings.Contains(err.Error(), `IMAGE=%n`) {
		t.Errorf("error %v", err)
	}
}
