package v1alpha1_test

import (
	"reflect"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
)

func TestSetOverridesTheFile(t *testing.T) {
	tests := map[string]struct {
		set  []string
		got  func(v1alpha1.Spec) any
		want any
	}{
		"field": {
			[]string{"spec.kubernetes.version=v1.34.1"},
			func(s v1alpha1.Spec) any { return s.Kubernetes.Version }, "v1.34.1",
		},
		"number for a string": {
			[]string{"spec.os={distro: ubuntu, version: 24.04}"},
			func(s v1alpha1.Spec) any { return s.OS.Version }, "24.04",
		},
		"last flag wins": {
			[]string{"spec.os.version=12", "spec.os.version=13"},
			func(s v1alpha1.Spec) any { return s.OS.Version }, "13",
		},
		"item": {
			[]string{"spec.infrastructures[0]=vsphere"},
			func(s v1alpha1.Spec) any { return s.Infrastructures }, []string{"vsphere"},
		},
		"next item": {
			[]string{"spec.infrastructures[1]=vsphere"},
			func(s v1alpha1.Spec) any { return s.Infrastructures }, []string{"qemu", "vsphere"},
		},
		"whole list": {
			[]string{"spec.infrastructures=[vsphere, qemu]"},
			func(s v1alpha1.Spec) any { return s.Infrastructures }, []string{"vsphere", "qemu"},
		},
		"list that is not there": {
			[]string{"spec.packages[0]=htop", "spec.packages[1]=tcpdump"},
			func(s v1alpha1.Spec) any { return s.Packages }, []string{"htop", "tcpdump"},
		},
		"field of an item that is not there": {
			[]string{"spec.files[0].path=/etc/a", "spec.files[0].content=a: b # c", "spec.files[0].mode=0600"},
			func(s v1alpha1.Spec) any { return []string{s.Files[0].Path, *s.Files[0].Content, s.Files[0].Mode} },
			[]string{"/etc/a", "a: b # c", "0600"},
		},
		"empty string": {
			[]string{`spec.files=[{path: /etc/a, content: x}]`, `spec.files[0].content=""`},
			func(s v1alpha1.Spec) any { return *s.Files[0].Content }, "",
		},
		"key with dots": {
			[]string{"spec.sysctls[vm.swappiness]=10"},
			func(s v1alpha1.Spec) any { return s.Sysctls }, map[string]string{"vm.swappiness": "10"},
		},
		"boolean": {
			[]string{"spec.users[0].name=ada", "spec.users[0].sudo=true"},
			func(s v1alpha1.Spec) any { return s.Users[0].Sudo }, true,
		},
		"size": {
			[]string{"spec.disk.size=20Gi"},
			func(s v1alpha1.Spec) any { return s.Disk.Size }, v1alpha1.SizeOrContent(20 << 30),
		},
		"nothing": {
			[]string{"spec.disk.size=20Gi", "spec.disk="},
			func(s v1alpha1.Spec) any { return s.Disk.Size }, v1alpha1.SizeOrContent(8 << 30),
		},
		"value with an equals sign": {
			[]string{"spec.kernelArguments[0]=console=ttyS0"},
			func(s v1alpha1.Spec) any { return s.KernelArguments }, []string{"console=ttyS0"},
		},
		"SSH key": {
			[]string{"spec.users[0].name=ada", "spec.users[0].sshAuthorizedKeys[0]=" + publicKey + ": laptop"},
			func(s v1alpha1.Spec) any { return s.Users[0].SSHAuthorizedKeys }, []string{publicKey + ": laptop"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			img := mustRead(t, shortest, test.set...)
			if got := test.got(img.Spec); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, want %#v", got, test.want)
			}
		})
	}
}

func TestSetCanRepairTheFile(t *testing.T) {
	mustRead(t, "apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nspec:\n",
		"metadata.name=n", "spec.os.distro=debian", "spec.os.version=12",
		"spec.kubernetes.version=v1.34.0", "spec.infrastructures=[qemu]")
}

func TestWrongFlagsAreNamed(t *testing.T) {
	tests := map[string]struct{ set, want string }{
		"no equals sign": {
			"spec.os",
			"--set spec.os: has no value; allowed: PATH=VALUE, such as spec.kubernetes.version=v1.34.0",
		},
		"empty": {
			"=x",
			"--set: is not the path of a field; allowed: names with dots, indexes and keys in brackets, such as spec.files[0].path or spec.sysctls[vm.swappiness]",
		},
		"misspelt field": {
			"spec.kuberntes.version=v1.34.1",
			`--set spec.kuberntes.version: spec.kuberntes: is not a field; allowed: ` + specFields + `; did you mean "kubernetes"?`,
		},
		"unknown field at the top": {
			"status.ready=true",
			"--set status.ready: status: is not a field; allowed: apiVersion, kind, metadata, spec",
		},
		"field of a scalar": {
			"metadata.name.first=x",
			"--set metadata.name.first: is not a field: what it would be part of has none",
		},
		"index of a mapping": {
			"spec[0]=x",
			"--set spec[0]: is not a field; allowed: " + specFields,
		},
		"name in a list": {
			"spec.infrastructures.first=qemu",
			"--set spec.infrastructures.first: is not an item of a list; allowed: the index in brackets, from 0",
		},
		"negative index": {
			"spec.infrastructures[-1]=qemu",
			"--set spec.infrastructures[-1]: is not an item of a list; allowed: the index in brackets, from 0",
		},
		"past the end": {
			"spec.infrastructures[2]=qemu",
			"--set spec.infrastructures[2]: is past the end of a list of 1; allowed: an index from 0 to 1",
		},
		"key without brackets": {
			"spec.sysctls.vm.swappiness=1",
			"--set spec.sysctls.vm.swappiness: spec.sysctls.vm: is not a key; allowed: the key in brackets",
		},
		"unclosed bracket": {
			"spec.infrastructures[0=qemu",
			"--set spec.infrastructures[0: is not the path of a field; allowed: names with dots, indexes and keys in brackets, such as spec.files[0].path or spec.sysctls[vm.swappiness]",
		},
		"empty name": {
			"spec..os=x",
			"--set spec..os: is not the path of a field; allowed: names with dots, indexes and keys in brackets, such as spec.files[0].path or spec.sysctls[vm.swappiness]",
		},
		"unclosed list": {
			"spec.infrastructures=[qemu",
			"--set spec.infrastructures: not YAML: did not find expected ',' or ']'",
		},
		"wrong type": {
			"spec.infrastructures=qemu",
			`--set spec.infrastructures: "qemu" is not a list`,
		},
		"wrong value": {
			"spec.os.distro=debain",
			`--set spec.os.distro: "debain" is not a supported distribution; allowed: debian, ubuntu; did you mean "debian"?`,
		},
		"wrong value in a mapping": {
			"spec.os={distro: debian, version: 12, edition: x}",
			"--set spec.os: spec.os.edition: is not a field; allowed: distro, version",
		},
		"item taken away": {
			"spec.infrastructures[0]=",
			"--set spec.infrastructures[0]: has no value",
		},
		"field taken away": {
			"spec.kubernetes=",
			"--set spec.kubernetes: spec.kubernetes.version: is required; allowed: a version such as v1.34.0",
		},
		"not UTF-8": {
			"metadata.name=\xff",
			`--set metadata.name: "\xff" is not UTF-8`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := read(shortest, test.set)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != test.want {
				t.Errorf("got\n%s\nwant\n%s", err, test.want)
			}
		})
	}
}
