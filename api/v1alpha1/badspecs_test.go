package v1alpha1_test

import "slices"

type badSpec struct{ name, old, new, want string }

// badSpecs are the shortest spec with old replaced by new, or with new at its
// end, and everything that is said of it.
var badSpecs = slices.Concat(badSettings, badSources, badDisks, []badSpec{
	{
		"empty file", shortest, "",
		"s.yaml: the file is empty; allowed: one NodeImage",
	},
	{
		"only comments", shortest, "# nothing\n---\n",
		"s.yaml: the file is empty; allowed: one NodeImage",
	},
	{
		"not YAML", shortest, "spec:\n  os: [debian\n",
		"s.yaml:2: not YAML: did not find expected ',' or ']'",
	},
	{
		"tab for indentation", shortest, "spec:\n\tos: x\n",
		"s.yaml:2: not YAML: found character that cannot start any token",
	},
	{
		"invalid UTF-8", shortest, "kind: \xff\n",
		"s.yaml: not YAML: invalid leading UTF-8 octet",
	},
	{
		"list instead of a mapping", shortest, "- kind: NodeImage\n",
		"s.yaml:1:1: a list is not a mapping; allowed: one NodeImage",
	},
	{
		"text instead of a mapping", shortest, "debian-12\n",
		`s.yaml:1:1: "debian-12" is not a mapping; allowed: one NodeImage`,
	},
	{
		"second document", "", "---\nkind: NodeImage\n",
		"s.yaml:9:1: a second document begins here; allowed: one NodeImage in a file",
	},
	{
		"alias", "", "  packages: &p [htop]\n  kernelArguments: *p\n",
		"s.yaml:9:20: spec.kernelArguments: the alias *p is not supported: write the value out",
	},
	{
		"merge key", "", "  disk: {<<: {size: 8Gi}}\n",
		"s.yaml:8:10: spec.disk.<<: is not a field; allowed: size, headroom, firmware, fileSystems",
	},
	{
		"alias bomb", "", "  packages: [&a [x, x], &b [*a, *a], &c [*b, *b]]\n  files: *c\n",
		"s.yaml:8:14: spec.packages[0]: a list is not a string\n" +
			"s.yaml:8:25: spec.packages[1]: a list is not a string\n" +
			"s.yaml:8:38: spec.packages[2]: a list is not a string\n" +
			"s.yaml:9:10: spec.files: the alias *c is not supported: write the value out",
	},
	{
		"key that is a list", "", "  [a, b]: c\n",
		"s.yaml:8:3: spec: a list is not a field's name",
	},
	{
		"missing apiVersion and kind", "apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\n", "",
		"s.yaml:1:1: apiVersion: is required; allowed: nodesmith.dev/v1alpha1\n" +
			"s.yaml:1:1: kind: is required; allowed: NodeImage",
	},
	{
		"other version of the API", "v1alpha1", "v1beta1",
		`s.yaml:1:13: apiVersion: "nodesmith.dev/v1beta1" is not an API version of nodesmith; allowed: nodesmith.dev/v1alpha1; did you mean "nodesmith.dev/v1alpha1"?`,
	},
	{
		"content with a control character", "", "  files: [{path: /a, content: \"a\\x7fb\"}]\n",
		"s.yaml:8:31: spec.files[0].content: the content is not text; allowed: UTF-8 text without control characters U+0000 and U+007F to U+009F; source takes any file",
	},
	{
		"misspelt kind", "kind: NodeImage", "kind: NodeImgae",
		`s.yaml:2:7: kind: "NodeImgae" is not a kind of file that nodesmith reads; allowed: NodeImage; did you mean "NodeImage"?`,
	},
	{
		"another kind of file", shortest, "apiVersion: v1\nkind: Pod\nmetadata: {name: P}\nspec: {containers: []}\n",
		"s.yaml:1:13: apiVersion: \"v1\" is not an API version of nodesmith; allowed: nodesmith.dev/v1alpha1\n" +
			"s.yaml:2:7: kind: \"Pod\" is not a kind of file that nodesmith reads; allowed: NodeImage",
	},
	{
		"no spec", shortest, "apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nmetadata: {name: node}\n",
		"s.yaml:1:1: spec.infrastructures: is required; allowed: qemu, vsphere, aws, azure, openstack, kubevirt, proxmox, nutanix, gcp\n" +
			"s.yaml:1:1: spec.kubernetes.version: is required; allowed: a version such as v1.34.0\n" +
			"s.yaml:1:1: spec.os.distro: is required; allowed: debian, ubuntu\n" +
			"s.yaml:1:1: spec.os.version: is required",
	},
	{
		"spec without a value", shortest, "apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nmetadata: {name: node}\nspec:\n",
		"s.yaml:4:1: spec.infrastructures: is required; allowed: qemu, vsphere, aws, azure, openstack, kubevirt, proxmox, nutanix, gcp\n" +
			"s.yaml:4:1: spec.kubernetes.version: is required; allowed: a version such as v1.34.0\n" +
			"s.yaml:4:1: spec.os.distro: is required; allowed: debian, ubuntu\n" +
			"s.yaml:4:1: spec.os.version: is required",
	},
	{
		"unknown field", "", "  networking: {}\n",
		"s.yaml:8:3: spec.networking: is not a field; allowed: " + specFields,
	},
	{
		"misspelt field", "  kubernetes:", "  kuberntes:",
		`s.yaml:6:3: spec.kuberntes: is not a field; allowed: ` + specFields + `; did you mean "kubernetes"?`,
	},
	{
		"misspelt field of a list's item", "", "  users:\n  - name: ada\n    sshAuthorisedKeys: []\n",
		`s.yaml:10:5: spec.users[0].sshAuthorisedKeys: is not a field; allowed: name, uid, sshAuthorizedKeys, groups, shell, sudo; did you mean "sshAuthorizedKeys"?`,
	},
	{
		"field of another kind of case", "", "  kernelarguments: [quiet]\n",
		`s.yaml:8:3: spec.kernelarguments: is not a field; allowed: ` + specFields + `; did you mean "kernelArguments"?`,
	},
	{
		"repeated field", "", "  os: {distro: debian, version: \"13\"}\n",
		"s.yaml:8:3: spec.os: is given twice; first on line 5",
	},
	{
		"repeated sysctl", "", "  sysctls:\n    vm.swappiness: 1\n    vm.swappiness: 2\n",
		"s.yaml:10:5: spec.sysctls[vm.swappiness]: is given twice; first on line 9",
	},
	{
		"text instead of a list", "", "  packages: htop\n",
		`s.yaml:8:13: spec.packages: "htop" is not a list`,
	},
	{
		"list instead of a mapping in spec", "  os: {distro: debian, version: \"12\"}", "  os: [debian, 12]",
		"s.yaml:5:7: spec.os: a list is not a mapping; allowed: distro, version",
	},
	{
		"mapping instead of text", "metadata: {name: node}", "metadata: {name: {first: node}}",
		"s.yaml:3:18: metadata.name: a mapping is not a string",
	},
	{
		"number instead of text", "metadata: {name: node}", "metadata: {name: 12}",
		`s.yaml:3:18: metadata.name: the number 12 is not a string: it needs quotes; did you mean "12"?`,
	},
	{
		"date instead of text", "metadata: {name: node}", "metadata: {name: 2026-01-01}",
		`s.yaml:3:18: metadata.name: the date 2026-01-01 is not a string: it needs quotes; did you mean "2026-01-01"?`,
	},
	{
		"binary instead of text", "", "  files: [{path: /a, content: !!binary aGk=}]\n",
		"s.yaml:8:31: spec.files[0].content: a value tagged !!binary is not a string",
	},
	{
		"tagged mapping", "", "  disk: !size {size: 8Gi}\n",
		"s.yaml:8:9: spec.disk: a mapping tagged !size is not a mapping; allowed: size, headroom, firmware, fileSystems",
	},
	{
		"item without a value", "", "  packages:\n  - htop\n  -\n",
		"s.yaml:10:4: spec.packages[1]: has no value",
	},
	{
		"sysctl without a value", "", "  sysctls:\n    vm.swappiness:\n",
		"s.yaml:9:19: spec.sysctls[vm.swappiness]: has no value",
	},
	{
		"yes for true", "", "  users: [{name: ada, sudo: yes}]\n",
		`s.yaml:8:29: spec.users[0].sudo: "yes" is not a boolean; allowed: true, false; did you mean "true"?`,
	},
	{
		"number for true", "", "  users: [{name: ada, sudo: 2}]\n",
		"s.yaml:8:29: spec.users[0].sudo: the number 2 is not a boolean; allowed: true, false",
	},
	{
		"name in upper case", "metadata: {name: node}", "metadata: {name: Node}",
		`s.yaml:3:18: metadata.name: "Node" is not a name; allowed: at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit; did you mean "node"?`,
	},
	{
		"name with an underscore", "metadata: {name: node}", "metadata: {name: my_node}",
		`s.yaml:3:18: metadata.name: "my_node" is not a name; allowed: at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit`,
	},
	{
		"name that leaves the folder", "metadata: {name: node}", "metadata: {name: ../node}",
		`s.yaml:3:18: metadata.name: "../node" is not a name; allowed: at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit`,
	},
	{
		"long name", "metadata: {name: node}", "metadata: {name: nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn}",
		`s.yaml:3:18: metadata.name: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn..." is not a name; allowed: at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit`,
	},
	{
		"misspelt distribution", "distro: debian", "distro: debain",
		`s.yaml:5:16: spec.os.distro: "debain" is not a supported distribution; allowed: debian, ubuntu; did you mean "debian"?`,
	},
	{
		"unknown distribution", "distro: debian", "distro: plan9",
		`s.yaml:5:16: spec.os.distro: "plan9" is not a supported distribution; allowed: debian, ubuntu`,
	},
	{
		"missing distribution and version", "{distro: debian, version: \"12\"}", "{}",
		"s.yaml:5:3: spec.os.distro: is required; allowed: debian, ubuntu\n" +
			"s.yaml:5:3: spec.os.version: is required",
	},
	{
		"unsupported OS version", "version: \"12\"", `version: "11"`,
		`s.yaml:5:33: spec.os.version: "11" is not a supported version of debian; allowed: 12, 13`,
	},
	{
		"OS version as a fraction", "{distro: debian, version: \"12\"}", "{distro: ubuntu, version: 24.10}",
		`s.yaml:5:33: spec.os.version: the number 24.10 is not a string: it needs quotes; did you mean "24.10"?`,
	},
	{
		"OS version as an octal number", "version: \"12\"", "version: 012",
		`s.yaml:5:33: spec.os.version: the number 012 is not a string: it needs quotes; did you mean "012"?`,
	},
	{
		"Kubernetes version without v", "v1.34.0", "1.34.0",
		`s.yaml:6:25: spec.kubernetes.version: "1.34.0" is not a version; allowed: a version such as v1.34.0; did you mean "v1.34.0"?`,
	},
	{
		"Kubernetes version without patch", "v1.34.0", "v1.34",
		`s.yaml:6:25: spec.kubernetes.version: "v1.34" is not a version; allowed: a version such as v1.34.0; did you mean "v1.34.0"?`,
	},
	{
		"Kubernetes version as a number", "v1.34.0", "1.34",
		`s.yaml:6:25: spec.kubernetes.version: the number 1.34 is not a string: it needs quotes; did you mean "1.34"?`,
	},
	{
		"Kubernetes version with neither", "v1.34.0", `"1.34"`,
		`s.yaml:6:25: spec.kubernetes.version: "1.34" is not a version; allowed: a version such as v1.34.0; did you mean "v1.34.0"?`,
	},
	{
		"Kubernetes version that is a word", "v1.34.0", "latest",
		`s.yaml:6:25: spec.kubernetes.version: "latest" is not a version; allowed: a version such as v1.34.0`,
	},
	{
		"unsupported Kubernetes version", "v1.34.0", "v1.21.3",
		`s.yaml:6:25: spec.kubernetes.version: "v1.21.3" is not a supported version of Kubernetes; allowed: v1.33, v1.34`,
	},
	{
		"empty values", "", "  packages: [\"\"]\n  files: [{path: \"\", content: \"\"}]\n",
		"s.yaml:8:14: spec.packages[0]: \"\" is not a Debian package; allowed: NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14\n" +
			"s.yaml:9:18: spec.files[0].path: is required; allowed: an absolute path without . and .. and without / at its end",
	},
	{
		"missing Kubernetes", "  kubernetes: {version: v1.34.0}\n", "",
		"s.yaml:4:1: spec.kubernetes.version: is required; allowed: a version such as v1.34.0",
	},
	{
		"no infrastructures", "[qemu]", "[]",
		"s.yaml:7:20: spec.infrastructures: is required; allowed: qemu, vsphere, aws, azure, openstack, kubevirt, proxmox, nutanix, gcp",
	},
	{
		"misspelt infrastructure", "[qemu]", "[qemu, vpshere]",
		`s.yaml:7:27: spec.infrastructures[1]: "vpshere" is not a supported infrastructure; allowed: qemu, vsphere, aws, azure, openstack, kubevirt, proxmox, nutanix, gcp; did you mean "vsphere"?`,
	},
	{
		"repeated infrastructure", "[qemu]", "[qemu, qemu]",
		`s.yaml:7:27: spec.infrastructures[1]: "qemu" is there twice; first as spec.infrastructures[0]`,
	},
	{
		"unsupported architecture", "", "  architecture: x86_64\n",
		`s.yaml:8:17: spec.architecture: "x86_64" is not a supported architecture; allowed: amd64`,
	},
	{
		"package in upper case", "", "  packages: [Vim]\n",
		`s.yaml:8:14: spec.packages[0]: "Vim" is not a Debian package; allowed: NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14; did you mean "vim"?`,
	},
	{
		"package with a shell command", "", "  packages: [\"htop; reboot\"]\n",
		`s.yaml:8:14: spec.packages[0]: "htop; reboot" is not a Debian package; allowed: NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14`,
	},
	{
		"package option", "", "  packages: [--force]\n",
		`s.yaml:8:14: spec.packages[0]: "--force" is not a Debian package; allowed: NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14`,
	},
	{
		"package with an empty version", "", "  packages: [htop=]\n",
		`s.yaml:8:14: spec.packages[0]: "htop=" is not a Debian package; allowed: NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14`,
	},
	{
		"package twice", "", "  packages: [htop, htop=3.2.2-2]\n",
		`s.yaml:8:20: spec.packages[1]: "htop=3.2.2-2" is there twice; first as spec.packages[0]`,
	},
	{
		"relative path", "", "  files: [{path: etc/motd, content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "etc/motd" is not the path of a file; allowed: an absolute path without . and .. and without / at its end; did you mean "/etc/motd"?`,
	},
	{
		"path with ..", "", "  files: [{path: /etc/../motd, content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "/etc/../motd" is not the path of a file; allowed: an absolute path without . and .. and without / at its end; did you mean "/motd"?`,
	},
	{
		"path of a directory", "", "  files: [{path: /etc/, content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "/etc/" is not the path of a file; allowed: an absolute path without . and .. and without / at its end; did you mean "/etc"?`,
	},
	{
		"root as a file", "", "  files: [{path: /, content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "/" is not the path of a file; allowed: an absolute path without . and .. and without / at its end`,
	},
	{
		"path with a line break", "", "  files: [{path: \"/etc/a\\nb\", content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "/etc/a\nb" is not the path of a file; allowed: an absolute path without . and .. and without / at its end`,
	},
	{
		"path below a mount point", "", "  files: [{path: /run/motd, content: x}]\n",
		`s.yaml:8:18: spec.files[0].path: "/run/motd" would never be seen: the node mounts a file system over /run; allowed: a path outside /dev, /proc, /run, /sys`,
	},
	{
		"file twice", "", "  files: [{path: /a, content: x}, {path: /a, content: y}]\n",
		`s.yaml:8:42: spec.files[1].path: "/a" is there twice; first as spec.files[0].path`,
	},
	{
		"file below a file", "", "  files: [{path: /a/b/c, content: x}, {path: /a, content: y}]\n",
		`s.yaml:8:18: spec.files[0].path: "/a/b/c" lies below a file: spec.files[1].path`,
	},
	{
		"content and source", "", "  files: [{path: /a, content: x, source: motd.txt}]\n",
		"s.yaml:8:11: spec.files[0]: has both content and source; allowed: exactly one of content, source",
	},
	{
		"neither content nor source", "", "  files: [{path: /a}]\n",
		"s.yaml:8:11: spec.files[0]: has neither content nor source; allowed: exactly one of content, source",
	},
	{
		"content that is a number", "", "  files: [{path: /a, content: 1}]\n",
		`s.yaml:8:31: spec.files[0].content: the number 1 is not a string: it needs quotes; did you mean "1"?`,
	},
	{
		"source that is not there", "", "  files: [{path: /a, source: conf/chroni.conf}]\n",
		`s.yaml:8:30: spec.files[0].source: "conf/chroni.conf" is not in the build context; did you mean "conf/chrony.conf"?`,
	},
	{
		"source that is a directory", "", "  files: [{path: /a, source: conf}]\n",
		`s.yaml:8:30: spec.files[0].source: "conf" is a folder, which spec.directories copies; allowed: a regular file of the build context`,
	},
	{
		"source outside the build context", "", "  files: [{path: /a, source: ../secret}]\n",
		`s.yaml:8:30: spec.files[0].source: "../secret" is not a path in the build context; allowed: a path relative to the build context, without . and .. and with / between names`,
	},
	{
		"absolute source", "", "  files: [{path: /a, source: /etc/shadow}]\n",
		`s.yaml:8:30: spec.files[0].source: "/etc/shadow" is not a path in the build context; allowed: a path relative to the build context, without . and .. and with / between names`,
	},
	{
		"source that is not clean", "", "  files: [{path: /a, source: ./conf/chrony.conf}]\n",
		`s.yaml:8:30: spec.files[0].source: "./conf/chrony.conf" is not a path in the build context; allowed: a path relative to the build context, without . and .. and with / between names; did you mean "conf/chrony.conf"?`,
	},
	{
		"mode without quotes", "", "  files: [{path: /a, content: x, mode: 0644}]\n",
		`s.yaml:8:40: spec.files[0].mode: the number 0644 is not a string: it needs quotes; did you mean "0644"?`,
	},
	{
		"mode that is not octal", "", "  files: [{path: /a, content: x, mode: \"0689\"}]\n",
		`s.yaml:8:40: spec.files[0].mode: "0689" is not a file mode; allowed: three or four octal digits in quotes, such as "0644"`,
	},
	{
		"mode in letters", "", "  files: [{path: /a, content: x, mode: u=rw}]\n",
		`s.yaml:8:40: spec.files[0].mode: "u=rw" is not a file mode; allowed: three or four octal digits in quotes, such as "0644"`,
	},
	{
		"owner without group", "", "  files: [{path: /a, content: x, owner: root}]\n",
		`s.yaml:8:41: spec.files[0].owner: "root" is not an owner; allowed: USER:GROUP, each a name or a number, such as root:root or 1000:1000`,
	},
	{
		"kernel argument with a space", "", "  kernelArguments: [\"quiet splash\"]\n",
		`s.yaml:8:21: spec.kernelArguments[0]: "quiet splash" is not a kernel argument; allowed: one argument of printable ASCII characters without spaces, quotes and backslashes, such as console=ttyS0`,
	},
	{
		"kernel argument with a line break", "", "  kernelArguments: [\"quiet\\n\"]\n",
		`s.yaml:8:21: spec.kernelArguments[0]: "quiet\n" is not a kernel argument; allowed: one argument of printable ASCII characters without spaces, quotes and backslashes, such as console=ttyS0`,
	},
	{
		"kernel argument with a quote", "", "  kernelArguments: [\"a='b'\"]\n",
		`s.yaml:8:21: spec.kernelArguments[0]: "a='b'" is not a kernel argument; allowed: one argument of printable ASCII characters without spaces, quotes and backslashes, such as console=ttyS0`,
	},
	{
		"empty kernel argument", "", "  kernelArguments: [\"\"]\n",
		`s.yaml:8:21: spec.kernelArguments[0]: "" is not a kernel argument; allowed: one argument of printable ASCII characters without spaces, quotes and backslashes, such as console=ttyS0`,
	},
	{
		"sysctl without a dot", "", "  sysctls: {swappiness: 1}\n",
		`s.yaml:8:13: spec.sysctls[swappiness]: "swappiness" is not the name of a kernel parameter; allowed: names with dots, such as net.ipv4.ip_forward`,
	},
	{
		"sysctl that leaves /proc/sys", "", "  sysctls: {net/../../etc: 1}\n",
		`s.yaml:8:13: spec.sysctls[net/../../etc]: "net/../../etc" is not the name of a kernel parameter; allowed: names with dots, such as net.ipv4.ip_forward`,
	},
	{
		"sysctl under two names", "", "  sysctls: {net.ipv4.ip_forward: 1, net/ipv4/ip_forward: 0}\n",
		`s.yaml:8:58: spec.sysctls[net/ipv4/ip_forward]: "net/ipv4/ip_forward" is there twice; first as spec.sysctls[net.ipv4.ip_forward]`,
	},
	{
		"sysctl of two lines", "", "  sysctls: {vm.swappiness: \"1\\nkernel.panic=1\"}\n",
		`s.yaml:8:28: spec.sysctls[vm.swappiness]: "1\nkernel.panic=1" is not the value of a kernel parameter; allowed: one line`,
	},
	{
		"sysctl as a fraction", "", "  sysctls: {vm.swappiness: 1.5}\n",
		`s.yaml:8:28: spec.sysctls[vm.swappiness]: the number 1.5 is not a string: it needs quotes; did you mean "1.5"?`,
	},
	{
		"user without a name", "", "  users: [{sudo: true}]\n",
		"s.yaml:8:11: spec.users[0].name: is required; allowed: at most 32 of a-z, 0-9, _ and -, beginning with a letter or _",
	},
	{
		"user in upper case", "", "  users: [{name: Ada}]\n",
		`s.yaml:8:18: spec.users[0].name: "Ada" is not a user name; allowed: at most 32 of a-z, 0-9, _ and -, beginning with a letter or _; did you mean "ada"?`,
	},
	{
		"user with a colon", "", "  users: [{name: \"ada:x:0\"}]\n",
		`s.yaml:8:18: spec.users[0].name: "ada:x:0" is not a user name; allowed: at most 32 of a-z, 0-9, _ and -, beginning with a letter or _`,
	},
	{
		"root as a user", "", "  users: [{name: root}]\n",
		`s.yaml:8:18: spec.users[0].name: "root" is there already, and can't log in; allowed: a new user, who may have sudo`,
	},
	{
		"user twice", "", "  users: [{name: ada}, {name: ada}]\n",
		`s.yaml:8:31: spec.users[1].name: "ada" is there twice; first as spec.users[0].name`,
	},
	{
		"group of the name, or the number, that a user has", "",
		"  groups:\n  - {name: ada}\n  - {name: www, gid: 2000}\n  - {name: www, gid: 2000}\n  users:\n  - {name: ada}\n  - {name: bob, uid: 2000}\n  - {name: eve, uid: 100}\n",
		"s.yaml:11:12: spec.groups[2].name: \"www\" is there twice; first as spec.groups[1].name\n" +
			"s.yaml:11:22: spec.groups[2].gid: \"2000\" is there twice; first as spec.groups[1].gid\n" +
			"s.yaml:13:12: spec.users[0].name: \"ada\" is there twice; first as spec.groups[0].name\n" +
			"s.yaml:14:22: spec.users[1].uid: \"2000\" is there twice; first as spec.groups[2].gid\n" +
			"s.yaml:15:22: spec.users[2].uid: \"100\" is not a number of an account; allowed: a whole number from 1000 to 60000",
	},
	{
		"group with a comma", "", "  users: [{name: ada, groups: [\"adm,sudo\"]}]\n",
		`s.yaml:8:32: spec.users[0].groups[0]: "adm,sudo" is not a group name; allowed: at most 32 of a-z, 0-9, _ and -, beginning with a letter or _`,
	},
	{
		"shell that is no path", "", "  users: [{name: ada, shell: bash}]\n",
		`s.yaml:8:30: spec.users[0].shell: "bash" is not the path of a shell; allowed: an absolute path such as /bin/bash`,
	},
	{
		"broken SSH key", "", "  users: [{name: ada, sshAuthorizedKeys: [ssh-ed25519 AAAA]}]\n",
		`s.yaml:8:43: spec.users[0].sshAuthorizedKeys[0]: "ssh-ed25519 AAAA" is not an SSH public key; allowed: one line of a .pub file, such as ssh-ed25519 AAAA... name`,
	},
	{
		"two SSH keys in one", "", "  users: [{name: ada, sshAuthorizedKeys: [\"" + publicKey + "\\n" + publicKey + "\"]}]\n",
		`s.yaml:8:43: spec.users[0].sshAuthorizedKeys[0]: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHei8o05Ek9Ti9UWqRKf4Zha..." is not an SSH public key; allowed: one line of a .pub file, such as ssh-ed25519 AAAA... name`,
	},
	{
		"private SSH key", "", "  users:\n  - name: ada\n    sshAuthorizedKeys:\n    - |\n      -----BEGIN OPENSSH PRIVATE KEY-----\n      c2VjcmV0\n",
		"s.yaml:11:7: spec.users[0].sshAuthorizedKeys[0]: a private key does not belong in an image; take it for exposed; allowed: the public key, one line of a .pub file",
	},
	{
		"disk size without a meaning", "", "  disk: {size: 8 GB}\n",
		`s.yaml:8:16: spec.disk.size: "8 GB" is neither a size nor content; allowed: a whole number of bytes above 0, such as 8Gi, 10240Mi or 20G, content`,
	},
	{
		"disk too small", "", "  disk: {size: 1G}\n",
		`s.yaml:8:16: spec.disk.size: "1G" is too small; allowed: 2Gi to 2Ti, content`,
	},
	{
		"disk too large", "", "  disk: {size: 3Ti}\n",
		`s.yaml:8:16: spec.disk.size: "3Ti" is too large; allowed: 2Gi to 2Ti, content`,
	},
	{
		"disk size between two MiB", "", "  disk: {size: 5000000000}\n",
		`s.yaml:8:16: spec.disk.size: "5000000000" is not a whole number of MiB; allowed: a multiple of 1Mi; did you mean "4769Mi"?`,
	},
	{
		"zero disk", "", "  disk: {size: 0}\n",
		`s.yaml:8:16: spec.disk.size: "0" is neither a size nor content; allowed: a whole number of bytes above 0, such as 8Gi, 10240Mi or 20G, content`,
	},
	{
		"unverified input with a space", "", "  allowUnverified: [\"all of it\"]\n",
		`s.yaml:8:21: spec.allowUnverified[0]: "all of it" is not the name of an input; allowed: a name without spaces, such as a Go module's path`,
	},
	{
		"several errors at once", shortest, "apiVersion: nodesmith.dev/v1alpha1\nkind: NodeImage\nmetadata: {name: Node}\nspec:\n  os: {distro: debain, version: 12.0, edition: x}\n  kubernetes: v1.34.0\n  infrastrucures: [qemu]\n  packages: [htop, 7]\n  disk: {size: 1Gi}\n",
		"s.yaml:3:18: metadata.name: \"Node\" is not a name; allowed: at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit; did you mean \"node\"?\n" +
			"s.yaml:5:16: spec.os.distro: \"debain\" is not a supported distribution; allowed: debian, ubuntu; did you mean \"debian\"?\n" +
			"s.yaml:5:33: spec.os.version: the number 12.0 is not a string: it needs quotes; did you mean \"12.0\"?\n" +
			"s.yaml:5:39: spec.os.edition: is not a field; allowed: distro, version\n" +
			"s.yaml:6:15: spec.kubernetes: \"v1.34.0\" is not a mapping; allowed: version\n" +
			"s.yaml:7:3: spec.infrastrucures: is not a field; allowed: " + specFields + "; did you mean \"infrastructures\"?\n" +
			"s.yaml:8:20: spec.packages[1]: the number 7 is not a string: it needs quotes; did you mean \"7\"?\n" +
			"s.yaml:9:16: spec.disk.size: \"1Gi\" is too small; allowed: 2Gi to 2Ti, content",
	},
	{
		"field that commands the terminal", "", "  \"a\\e[2J\\nb\": x\n",
		`s.yaml:8:3: spec.a\x1b[2J\nb: is not a field; allowed: ` + specFields,
	},
	{
		"broken size that is a list", "", "  disk: {size: [8Gi]}\n",
		"s.yaml:8:16: spec.disk.size: a list is not a string",
	},
	{
		"SSH key that is a number", "", "  users: [{name: ada, sshAuthorizedKeys: [1]}]\n",
		`s.yaml:8:43: spec.users[0].sshAuthorizedKeys[0]: the number 1 is not a string: it needs quotes; did you mean "1"?`,
	},
})
