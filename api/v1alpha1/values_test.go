package v1alpha1_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
)

// origins are a file and flags, and where each value then comes from.
const origins = `apiVersion: nodesmith.dev/v1alpha1
kind: NodeImage
metadata: {name: node}
spec:
  os:
    distro: debian
    version: 12
  kubernetes: {version: v1.34.0}
  infrastructures: [qemu, vsphere]
  packages:
  - curl
  - strace
  disk:
    size: 8Gi
    firmware: [uefi]
  sysctls: {vm.swappiness: 10, net.core.somaxconn: "1024"}
  files:
  - {path: /etc/a, content: ""}
  - path: /etc/b
    content: |
      one
      two
    mode: "0600"
  kubelet:
    config: {maxPods: 200}
  ntpServers:
  users: [{name: admin, sudo: true}]
`

func TestValuesSayWhereTheyComeFrom(t *testing.T) {
	document, err := v1alpha1.Load("node.yaml", []byte(origins), []string{
		"spec.kubernetes.version=v1.34.1", "spec.packages[1]=rsync", "spec.packages[2]=jq",
		"spec.sysctls[vm.swappiness]=20", "spec.timeZone=", "spec.kernelArguments=[quiet, \"a=b\"]",
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := document.Validate(known, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range document.Values(image) {
		origin := "default"
		switch {
		case v.Flag != "":
			origin = v.Flag
		case v.File != "":
			origin = fmt.Sprintf("%s:%d:%d", v.File, v.Line, v.Column)
		}
		if v.Default() != (origin == "default") {
			t.Errorf("%+v", v)
		}
		if _, twice := got[v.Path]; twice {
			t.Errorf("%s is listed twice", v.Path)
		}
		got[v.Path] = v.Text + " < " + origin
	}
	for path, want := range map[string]string{
		"metadata.name":                    "node < node.yaml:3:18",
		"spec.os.distro":                   "debian < node.yaml:6:13",
		"spec.os.version":                  "12 < node.yaml:7:14",
		"spec.kubernetes.version":          "v1.34.1 < --set spec.kubernetes.version",
		"spec.infrastructures[0]":          "qemu < node.yaml:9:21",
		"spec.infrastructures[1]":          "vsphere < node.yaml:9:27",
		"spec.architecture":                "amd64 < default",
		"spec.packages[0]":                 "curl < node.yaml:11:5",
		"spec.packages[1]":                 "rsync < --set spec.packages[1]",
		"spec.packages[2]":                 "jq < --set spec.packages[2]",
		"spec.disk.size":                   "8Gi < node.yaml:14:11",
		"spec.disk.firmware[0]":            "uefi < node.yaml:15:16",
		"spec.sysctls[vm.swappiness]":      "20 < --set spec.sysctls[vm.swappiness]",
		"spec.sysctls[net.core.somaxconn]": "1024 < node.yaml:16:52",
		"spec.files[0].content":            " < node.yaml:18:29", // empty, and that is meant
		"spec.files[0].mode":               "0644 < default",
		"spec.files[0].owner":              "root:root < default",
		"spec.files[1].content":            "one\ntwo\n < node.yaml:20:14",
		"spec.files[1].mode":               "0600 < node.yaml:23:11",
		"spec.kernelArguments[0]":          "quiet < --set spec.kernelArguments",
		"spec.kernelArguments[1]":          "a=b < --set spec.kernelArguments",
		"spec.kubelet.config":              `{"maxPods":200} < node.yaml:25:13`,
		"spec.timeZone":                    "Etc/UTC < default", // the flag took it away
		"spec.users[0].shell":              "/bin/bash < default",
		"spec.users[0].sudo":               "true < node.yaml:27:31",
		"spec.vsphere.firmware":            "efi < default", // follows from disk.firmware
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	for path := range got {
		if strings.HasPrefix(path, "spec.ntpServers") || strings.HasPrefix(path, "spec.groups") {
			t.Errorf("%s is listed, and has no value", path)
		}
	}
}

// What the example that sets every field writes has its line.
func TestEveryWrittenValueHasItsLine(t *testing.T) {
	document, err := v1alpha1.Load("full.yaml", examples.Full, nil)
	if err != nil {
		t.Fatal(err)
	}
	image, err := document.Validate(known, os.DirFS("../../examples"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(examples.Full), "\n")
	written := 0
	for _, v := range document.Values(image) {
		if v.Default() || v.Path == "spec.kubelet.config" { // a mapping, and one value
			continue
		}
		written++
		first, _, _ := strings.Cut(v.Text, "\n")
		if rest := lines[v.Line-1][v.Column-1:]; v.Text != "" && !strings.Contains(rest, strings.TrimSpace(first)) && !strings.ContainsAny(rest[:1], "|>\"'{") {
			t.Errorf("%s is %q; line %d, column %d is %q", v.Path, first, v.Line, v.Column, rest)
		}
	}
	if written < 130 {
		t.Errorf("only %d values", written)
	}
}
