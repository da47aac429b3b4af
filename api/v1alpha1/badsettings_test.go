package v1alpha1_test

// badSettings are the badSpecs about units, certificates and other settings of
// the node.
var badSettings = []badSpec{
	{
		"kernel module with its file's ending", "", "  kernelModules: [nbd, nbd.ko]\n",
		`s.yaml:8:24: spec.kernelModules[1]: "nbd.ko" is not the name of a kernel module; allowed: letters, digits, _ and -, such as nvme_tcp`,
	},
	{
		"format that is none, and one twice", "", "  formats: [raw, vdi, raw]\n",
		"s.yaml:8:18: spec.formats[1]: \"vdi\" is not a disk format; allowed: qcow2, raw\n" +
			"s.yaml:8:23: spec.formats[2]: \"raw\" is there twice; first as spec.formats[0]",
	},
	{
		"virtual machine that vSphere can't make", "  infrastructures: [qemu]", "  infrastructures: [vsphere]\n  vsphere:\n    name: 'my {{.Image}}'\n    hardwareVersion: 11\n" +
			"    firmware: uefi\n    guestOS: debian\n    cpus: 0\n    memory: 2049Mi\n    network: ''\n    eula: \"a\\u0007\"\n    product: {vendor: \"a\\nb\"}\n    properties: {A.B: x, C: ''}\n",
		"s.yaml:9:11: spec.vsphere.name: \"my node\" is not the name of a virtual machine; allowed: at most 80 letters, digits and ._+-, a letter or digit first\n" +
			"s.yaml:10:22: spec.vsphere.hardwareVersion: \"11\" is out of range; allowed: 13 to 22\n" +
			"s.yaml:11:15: spec.vsphere.firmware: \"uefi\" is not a firmware of vSphere; allowed: bios, efi, efi-secure; did you mean \"efi\"?\n" +
			"s.yaml:12:14: spec.vsphere.guestOS: \"debian\" is not VMware's name of a guest; allowed: an identifier of vSphere's API, such as debian11_64Guest or otherLinux64Guest\n" +
			"s.yaml:13:11: spec.vsphere.cpus: \"0\" is not a number; allowed: a whole number above 0, in digits\n" +
			"s.yaml:14:13: spec.vsphere.memory: \"2049Mi\" is not a size of memory; allowed: a multiple of 4Mi from 512Mi to 24Ti\n" +
			"s.yaml:16:11: spec.vsphere.eula: \"a\\a\" is not text; allowed: UTF-8 text without control characters but tabs and line ends\n" +
			"s.yaml:17:23: spec.vsphere.product.vendor: \"a\\nb\" is not a line of text; allowed: one line of at most 255 bytes\n" +
			"s.yaml:18:18: spec.vsphere.properties[A.B]: \"A.B\" is not the key of an OVF property; allowed: letters, digits and _, a letter first, such as VERSION\n" +
			"s.yaml:18:29: spec.vsphere.properties[C]: \"\" is not the value of an OVF property; allowed: one line of at most 255 bytes",
	},
	{
		"virtual machine's name with a value that there isn't", "  infrastructures: [qemu]", "  infrastructures: [vsphere]\n  vsphere: {name: 'a-{{.Kubernetes}}'}\n",
		"s.yaml:8:19: spec.vsphere.name: {{.Kubernetes}} is not a value of templates; allowed: Image, OSDistro, OSVersion, OSCodename, " +
			"KubernetesVersion, ContainerdVersion, PauseImage, Infrastructure, Architecture",
	},
	{
		"container images without a tag, twice, by a wrong digest, and from what is no archive", "",
		"  containerImages:\n  - {name: example.com/a}\n  - {name: example.com/a:v1}\n  - {name: example.com/a:v1, digest: abc}\n" +
			"  - {name: a/b:v1}\n  - {archive: motd.tar}\n  - {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}\n",
		"s.yaml:9:12: spec.containerImages[0].name: \"example.com/a\" is not a container image's full name; allowed: a name with registry and tag, such as registry.example.com/team/agent:v1.2.3; did you mean \"example.com/a:latest\"?\n" +
			"s.yaml:11:12: spec.containerImages[2].name: \"example.com/a:v1\" is there twice; first as spec.containerImages[1].name\n" +
			"s.yaml:11:38: spec.containerImages[2].digest: \"abc\" is not a digest; allowed: sha256: and 64 hexadecimal digits\n" +
			"s.yaml:12:12: spec.containerImages[3].name: \"a/b:v1\" is not a container image's full name; allowed: a name with registry and tag, such as registry.example.com/team/agent:v1.2.3; did you mean \"docker.io/a/b:v1\"?\n" +
			"s.yaml:13:15: spec.containerImages[4].archive: \"motd.tar\" is not in the build context; did you mean \"motd.txt\"?\n" +
			"s.yaml:14:5: spec.containerImages[5]: has neither name nor archive; allowed: name, archive, or both",
	},
	{
		"time server as a URL, and twice", "", "  ntpServers: [a, 'ntp://b', a]\n",
		"s.yaml:8:19: spec.ntpServers[1]: \"ntp://b\" is not a time server; allowed: a host name or an IP address, such as ntp.example.org or 2001:db8::123\n" +
			"s.yaml:8:30: spec.ntpServers[2]: \"a\" is there twice; first as spec.ntpServers[0]",
	},
	{
		"time zone that leaves the database", "", "  timeZone: ../../etc/shadow\n",
		`s.yaml:8:13: spec.timeZone: "../../etc/shadow" is not a time zone; allowed: a name of the IANA database, such as Etc/UTC or Europe/Berlin`,
	},
	{
		"unit without its type", "", "  systemdUnits: [{name: kubelet, enable: true}]\n",
		`s.yaml:8:25: spec.systemdUnits[0].name: "kubelet" is not the name of a systemd unit; allowed: a full name such as backup.timer or tunnel@west.service`,
	},
	{
		"units that say nothing, too much, or what can't be", "",
		"  systemdUnits:\n  - {name: a.timer}\n  - {name: b.timer, mask: true, enable: true}\n  - {name: c.timer, content: '[Timer]', enable: true}\n  - {name: d.timer, content: ''}\n  - {name: a.timer, mask: true}\n",
		"s.yaml:9:5: spec.systemdUnits[0]: says nothing about the unit; allowed: content, dropIns, enable, disable or mask\n" +
			"s.yaml:10:27: spec.systemdUnits[1].mask: leaves nothing of the unit; it goes with no other field\n" +
			"s.yaml:11:49: spec.systemdUnits[2].enable: needs an [Install] section in content: it says what starts the unit\n" +
			"s.yaml:12:30: spec.systemdUnits[3].content: is empty; allowed: a unit file, or mask: true\n" +
			"s.yaml:13:12: spec.systemdUnits[4].name: \"a.timer\" is there twice; first as spec.systemdUnits[0].name",
	},
	{
		"unit that is disabled and enabled, or masked", "",
		"  systemdUnits:\n  - {name: a.timer, disable: true, enable: true}\n  - {name: b.timer, disable: true, mask: true}\n",
		"s.yaml:9:30: spec.systemdUnits[0].disable: is the opposite of enable, and less than mask: give one of the three\n" +
			"s.yaml:10:30: spec.systemdUnits[1].disable: is the opposite of enable, and less than mask: give one of the three",
	},
	{
		"drop-ins of a wrong name, without content, and that are files too", "",
		"  files: [{path: /etc/systemd/system/a.service.d/b.conf, content: x}]\n  systemdUnits:\n  - {name: a.service, dropIns: [{name: b.conf, content: x}, {name: c, content: x}, {name: d.conf}]}\n",
		"s.yaml:10:40: spec.systemdUnits[0].dropIns[0].name: \"/etc/systemd/system/a.service.d/b.conf\" is there twice; first as spec.files[0].path\n" +
			"s.yaml:10:68: spec.systemdUnits[0].dropIns[1].name: \"c\" is not the name of a drop-in; allowed: a file name that ends in .conf, such as 10-limits.conf\n" +
			"s.yaml:10:84: spec.systemdUnits[0].dropIns[2].content: is required",
	},
	{
		"certificates that are none", "",
		"  caCertificates:\n  - {name: a/b, source: motd.txt}\n  - {name: b}\n  - {name: c, content: x, source: motd.txt}\n" +
			"  - name: b\n    content: |\n      -----BEGIN PRIVATE KEY-----\n      c2VjcmV0\n      -----END PRIVATE KEY-----\n  - {name: d, source: motd.tx}\n",
		"s.yaml:9:12: spec.caCertificates[0].name: \"a/b\" is not the name of a certificate; allowed: letters, digits, _, - and ., such as example-root\n" +
			"s.yaml:9:25: spec.caCertificates[0].source: \"motd.txt\" holds no PEM block: -----BEGIN CERTIFICATE-----; allowed: exactly one certificate in PEM form, -----BEGIN CERTIFICATE-----\n" +
			"s.yaml:10:5: spec.caCertificates[1]: has neither content nor source; allowed: exactly one of content, source\n" +
			"s.yaml:11:5: spec.caCertificates[2]: has both content and source; allowed: exactly one of content, source\n" +
			"s.yaml:12:11: spec.caCertificates[3].name: \"b\" is there twice; first as spec.caCertificates[1].name\n" +
			"s.yaml:13:14: spec.caCertificates[3].content: the content holds a PRIVATE KEY; allowed: exactly one certificate in PEM form, -----BEGIN CERTIFICATE-----\n" +
			"s.yaml:17:23: spec.caCertificates[4].source: \"motd.tx\" is not in the build context; did you mean \"motd.txt\"?",
	},
	{
		"templates with unknown names and without an end", "",
		"  files:\n  - path: /a\n    template: true\n    content: |\n      {{.Image}}\n      {{if false}}{{$.KubernetsVersion}}{{end}}\n" +
			"  - {path: /b, source: motd.tmpl, template: true}\n  - {path: /c, content: '{{if', template: true}\n" +
			"  - {path: /d, content: '{{.Image.Name}}', template: true}\n  - {path: /e, content: '{{index .Image 99}}', template: true}\n",
		"s.yaml:13: spec.files[0].content: {{.KubernetsVersion}} is not a value of templates; allowed: Image, OSDistro, OSVersion, OSCodename, KubernetesVersion, ContainerdVersion, PauseImage, Infrastructure, Architecture; did you mean \"KubernetesVersion\"?\n" +
			"s.yaml:14:24: spec.files[1].source: motd.tmpl:2: {{.Imgae}} is not a value of templates; allowed: Image, OSDistro, OSVersion, OSCodename, KubernetesVersion, ContainerdVersion, PauseImage, Infrastructure, Architecture; did you mean \"Image\"?\n" +
			"s.yaml:15:25: spec.files[2].content: line 1: the text is not a template: unclosed action\n" +
			"s.yaml:16:25: spec.files[3].content: line 1: {{.Image.Name}} is not a value of templates; allowed: Image, OSDistro, OSVersion, OSCodename, KubernetesVersion, ContainerdVersion, PauseImage, Infrastructure, Architecture\n" +
			"s.yaml:17:25: spec.files[4].content: line 1: the text is not a template: <index .Image 99>: error calling index: index out of range: 99",
	},
	{
		"directories and links in each other's way", "",
		"  files: [{path: /a/text, content: x}, {path: /f, source: tree}, {path: /l/x, content: x}]\n  directories:\n" +
			"  - {path: /a, source: tree}\n  - {path: /b, source: motd.txt}\n  - {path: /c, source: tre}\n  - {path: /d, source: ../x, mode: rwx}\n  - {path: /proc/x}\n" +
			"  links: [{path: /a/bin, target: x}, {path: /l, target: ''}]\n",
		"s.yaml:8:59: spec.files[1].source: \"tree\" is a folder, which spec.directories copies; allowed: a regular file of the build context\n" +
			"s.yaml:8:73: spec.files[2].path: \"/l/x\" lies below a link: spec.links[1].path\n" +
			"s.yaml:10:24: spec.directories[0].source: \"/a/text\" is there twice; first as spec.files[0].path\n" +
			"s.yaml:11:24: spec.directories[1].source: \"motd.txt\" is not a folder; allowed: a folder of the build context; spec.files takes single files\n" +
			"s.yaml:12:24: spec.directories[2].source: \"tre\" is not in the build context; did you mean \"tree\"?\n" +
			"s.yaml:13:24: spec.directories[3].source: \"../x\" is not a path in the build context; allowed: a path relative to the build context, without . and .. and with / between names\n" +
			"s.yaml:13:36: spec.directories[3].mode: \"rwx\" is not a file mode; allowed: three or four octal digits in quotes, such as \"0644\"\n" +
			"s.yaml:14:12: spec.directories[4].path: \"/proc/x\" would never be seen: the node mounts a file system over /proc; allowed: a path outside /dev, /proc, /run, /sys\n" +
			"s.yaml:15:18: spec.links[0].path: \"/a/bin\" is there twice; first as spec.directories[0].source\n" +
			"s.yaml:15:57: spec.links[1].target: is required; allowed: an absolute path, or one relative to the link's directory",
	},
	{
		"scripts that can't be run", "",
		"  scripts:\n  - {name: A b, when: late, content: x}\n  - {name: a, when: final, content: x, source: motd.txt}\n  - {name: a, when: final}\n" +
			"  - {name: b, when: final, source: dos.sh}\n  - {name: c, when: final, source: binary}\n  - {name: d, content: '#!bash'}\n  - {name: e, when: final, content: ' '}\n" +
			"  - {name: f, when: firstBoot, content: x}\n  files: [{path: /etc/systemd/system/first-boot-f.service, content: x}]\n",
		"s.yaml:9:12: spec.scripts[0].name: \"A b\" is not the name of a script; allowed: a-z, 0-9 and -, beginning and ending with a letter or digit, such as harden-ssh\n" +
			"s.yaml:9:23: spec.scripts[0].when: \"late\" is not a point at which scripts run; allowed: beforePackages, afterKubernetes, final, firstBoot\n" +
			"s.yaml:10:5: spec.scripts[1]: has both content and source; allowed: exactly one of content, source\n" +
			"s.yaml:11:5: spec.scripts[2]: has neither content nor source; allowed: exactly one of content, source\n" +
			"s.yaml:11:12: spec.scripts[2].name: \"a\" is there twice; first as spec.scripts[1].name\n" +
			"s.yaml:12:36: spec.scripts[3].source: \"dos.sh\" ends its lines as Windows does (CR LF), which no interpreter here understands; allowed: a shell script, or one whose first line is #! and an interpreter of the tree\n" +
			"s.yaml:13:36: spec.scripts[4].source: \"binary\" is not a script: it is not text; allowed: a shell script, or one whose first line is #! and an interpreter of the tree\n" +
			"s.yaml:14:5: spec.scripts[5].when: is required; allowed: beforePackages, afterKubernetes, final, firstBoot\n" +
			"s.yaml:14:24: spec.scripts[5].content: the content names its interpreter without an absolute path: #!bash; allowed: a shell script, or one whose first line is #! and an interpreter of the tree\n" +
			"s.yaml:15:37: spec.scripts[6].content: the content is empty; allowed: a shell script, or one whose first line is #! and an interpreter of the tree\n" +
			"s.yaml:16:12: spec.scripts[7].name: \"/etc/systemd/system/first-boot-f.service\" is there twice; first as spec.files[0].path",
	},
	{
		"mirrors that can't be asked or trusted", "",
		"  containerRuntime:\n    registryMirrors:\n    - {registry: 'https://quay.io/', mirrors: [{url: mirror.example.com}, {url: 'https://ada:secret@m.example.com'}]}\n" +
			"    - {registry: registry-1.docker.io, mirrors: []}\n    - registry: quay.io\n      mirrors:\n" +
			"      - {url: 'http://m', skipVerify: true}\n      - {url: 'https://m', skipVerify: true, ca: {source: motd.txt}, capabilities: [pull, list]}\n" +
			"      - {url: 'https://n', ca: {source: motd.txt}}\n      - {url: 'https://m'}\n    - {registry: quay.io, mirrors: [{}]}\n",
		"s.yaml:10:18: spec.containerRuntime.registryMirrors[0].registry: \"https://quay.io/\" is not the name of a registry; allowed: a host name, perhaps with a port, such as docker.io or registry.example.com:5000; or _default; did you mean \"quay.io\"?\n" +
			"s.yaml:10:54: spec.containerRuntime.registryMirrors[0].mirrors[0].url: \"mirror.example.com\" is not a URL of a server; allowed: an http or https URL, such as https://mirror.example.com/dockerhub\n" +
			"s.yaml:10:81: spec.containerRuntime.registryMirrors[0].mirrors[1].url: the URL holds credentials, which do not belong in a NodeImage; take them for exposed; allowed: an http or https URL, such as https://mirror.example.com/dockerhub\n" +
			"s.yaml:11:18: spec.containerRuntime.registryMirrors[1].registry: \"registry-1.docker.io\" is not the name that images have; did you mean \"docker.io\"?\n" +
			"s.yaml:11:49: spec.containerRuntime.registryMirrors[1].mirrors: is required\n" +
			"s.yaml:14:9: spec.containerRuntime.registryMirrors[2].mirrors[0]: has no certificate to verify: its url begins with http://; allowed: skipVerify and ca with https:// alone\n" +
			"s.yaml:15:9: spec.containerRuntime.registryMirrors[2].mirrors[1]: has both skipVerify and ca; allowed: at most one of skipVerify, ca\n" +
			"s.yaml:15:91: spec.containerRuntime.registryMirrors[2].mirrors[1].capabilities[1]: \"list\" is not something that a mirror can be trusted with; allowed: pull, resolve, push\n" +
			"s.yaml:16:41: spec.containerRuntime.registryMirrors[2].mirrors[2].ca.source: \"motd.txt\" holds no PEM block: -----BEGIN CERTIFICATE-----; allowed: exactly one certificate in PEM form, -----BEGIN CERTIFICATE-----\n" +
			"s.yaml:17:15: spec.containerRuntime.registryMirrors[2].mirrors[3].url: \"https://m\" is there twice; first as spec.containerRuntime.registryMirrors[2].mirrors[1].url\n" +
			"s.yaml:18:18: spec.containerRuntime.registryMirrors[3].registry: \"quay.io\" is there twice; first as spec.containerRuntime.registryMirrors[2].registry\n" +
			"s.yaml:18:37: spec.containerRuntime.registryMirrors[3].mirrors[0].url: is required; allowed: an http or https URL, such as https://mirror.example.com/dockerhub",
	},
	{
		"files of containerd that it would refuse, pass over or break with", "",
		"  containerRuntime:\n    config:\n    - {name: a.conf, content: 'version = 2'}\n    - name: b.toml\n      content: |\n        version = 3\n        [metrics\n" +
			"    - {name: c.toml, content: 'metric = {}'}\n    - {name: d.toml, content: 'root = \"/data\"'}\n" +
			"    - name: e.toml\n      content: |\n        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n        SystemdCgroup = false\n    - {name: b.toml, content: ''}\n",
		"s.yaml:10:14: spec.containerRuntime.config[0].name: \"a.conf\" is not the name of a file in TOML; allowed: a file name that ends in .toml, such as 10-metrics.toml\n" +
			"s.yaml:10:31: spec.containerRuntime.config[0].content: version = 2 is not the version of this Kubernetes' containerd; allowed: version = 3, or none\n" +
			"s.yaml:14: spec.containerRuntime.config[1].content: the content is not TOML: expected ']' to close table name\n" +
			"s.yaml:15:31: spec.containerRuntime.config[2].content: \"metric\" is not a setting of containerd; allowed: version, root, state, temp, grpc, ttrpc, debug, metrics, disabled_plugins, required_plugins, plugins, oom_score, cgroup, proxy_plugins, timeouts, imports, stream_processors; did you mean \"metrics\"?\n" +
			"s.yaml:16:31: spec.containerRuntime.config[3].content: root can't be set: the image's container images lie in /var/lib/containerd\n" +
			"s.yaml:18:16: spec.containerRuntime.config[4].content: plugins > io.containerd.cri.v1.runtime > containerd > runtimes > runc > options > SystemdCgroup can't be set: kubelet's cgroup driver is systemd's as well\n" +
			"s.yaml:21:14: spec.containerRuntime.config[5].name: \"/etc/containerd/conf.d/b.toml\" is there twice; first as spec.containerRuntime.config[1].name\n" +
			"s.yaml:21:31: spec.containerRuntime.config[5].content: is required",
	},
	{
		"proxies with credentials, of nobody and for nothing", "",
		"  proxy: {httpProxy: 'http://ada:secret@proxy:3128', httpsProxy: 'proxy:3128', noProxy: ['a b', a, a], usedBy: [kubelet]}\n",
		"s.yaml:8:22: spec.proxy.httpProxy: the URL holds credentials, which do not belong in a NodeImage; take them for exposed; allowed: an http or https URL without credentials, such as http://proxy.example.com:3128\n" +
			"s.yaml:8:66: spec.proxy.httpsProxy: \"proxy:3128\" is not a URL of a server; allowed: an http or https URL without credentials, such as http://proxy.example.com:3128\n" +
			"s.yaml:8:90: spec.proxy.noProxy[0]: \"a b\" is not what is reached without a proxy; allowed: a host, a domain, an address or a network, such as .example.com or 10.0.0.0/8\n" +
			"s.yaml:8:100: spec.proxy.noProxy[2]: \"a\" is there twice; first as spec.proxy.noProxy[1]\n" +
			"s.yaml:8:113: spec.proxy.usedBy[0]: \"kubelet\" does not use proxies; allowed: build, node",
	},
	{
		"no proxy at all", "", "  proxy: {usedBy: [node]}\n  files: [{path: /etc/systemd/system/kubelet.service.d/http-proxy.conf, content: x}]\n",
		"s.yaml:8:10: spec.proxy: names no proxy; allowed: httpProxy, httpsProxy or both\n" +
			"s.yaml:9:18: spec.files[0].path: \"/etc/systemd/system/kubelet.service.d/http-proxy.conf\" is there twice; first as spec.proxy.usedBy",
	},
	{
		"settings of kubelet that it passes over, or that kubeadm decides", "",
		"  kubelet:\n    extraArgs: [-v=4, '--v=4 --x', --config=/x, --v=4, --v=5]\n    config:\n      maxPod: 9\n      cgroupDriver: cgroupfs\n      kind: Kubelet\n      evictionHard: {a: .inf}\n      featureGates: 012\n",
		"s.yaml:9:17: spec.kubelet.extraArgs[0]: \"-v=4\" is not a flag of kubelet; allowed: --NAME=VALUE of printable ASCII characters without spaces, quotes and backslashes, such as --v=4\n" +
			"s.yaml:9:23: spec.kubelet.extraArgs[1]: \"--v=4 --x\" is not a flag of kubelet; allowed: --NAME=VALUE of printable ASCII characters without spaces, quotes and backslashes, such as --v=4\n" +
			"s.yaml:9:36: spec.kubelet.extraArgs[2]: --config is not the image's to say: kubeadm passes it, or it differs from node to node; allowed: other flags; kubeadm's kubeletExtraArgs in the cluster\n" +
			"s.yaml:9:56: spec.kubelet.extraArgs[4]: \"--v\" is there twice; first as spec.kubelet.extraArgs[3]\n" +
			"s.yaml:11:7: spec.kubelet.config.maxPod: is not a field of KubeletConfiguration; did you mean \"maxPods\"?\n" +
			"s.yaml:12:7: spec.kubelet.config.cgroupDriver: is kubeadm's to say, so that node and cluster fit; allowed: in the cluster's KubeletConfiguration\n" +
			"s.yaml:13:7: spec.kubelet.config.kind: is filled in; allowed: kubelet.config.k8s.io/v1beta1, KubeletConfiguration, or neither\n" +
			"s.yaml:14:25: spec.kubelet.config.evictionHard.a: the number .inf is not a value that every reader of YAML takes alike: write it in quotes\n" +
			"s.yaml:15:21: spec.kubelet.config.featureGates: the number 012 is not a value that every reader of YAML takes alike: write it in quotes",
	},
}
