package v1alpha1_test

// badDisks are the badSpecs about the disk and its file systems.
var badDisks = []badSpec{
	{
		"headroom of a disk with a size", "", "  disk: {size: 20Gi, headroom: 1Gi}\n",
		"s.yaml:8:32: spec.disk.headroom: goes with size: content only",
	},
	{
		"misspelt content", "", "  disk: {size: Content}\n",
		`s.yaml:8:16: spec.disk.size: "Content" is neither a size nor content; allowed: a whole number of bytes above 0, such as 8Gi, 10240Mi or 20G, content`,
	},
	{
		"firmware that is none, and twice", "", "  disk: {firmware: [uefi, efi, uefi]}\n",
		"s.yaml:8:27: spec.disk.firmware[1]: \"efi\" is not a firmware that disks can be made for; allowed: bios, uefi; did you mean \"uefi\"?\n" +
			"s.yaml:8:32: spec.disk.firmware[2]: \"uefi\" is there twice; first as spec.disk.firmware[0]",
	},
	{
		"virtual machine that its disk can't start on", "", "  disk: {firmware: [bios]}\n  vsphere: {firmware: efi-secure}\n",
		`s.yaml:9:23: spec.vsphere.firmware: "efi-secure" does not start this disk: spec.disk.firmware has no uefi`,
	},
	{
		"file systems that have to be on the root", "",
		"  disk:\n    fileSystems:\n    - {mountPoint: /usr, size: 1Gi}\n    - {mountPoint: /etc/kubernetes, size: 1Gi}\n    - {mountPoint: /boot/efi, size: 1Gi}\n" +
			"    - {mountPoint: /bin, size: 1Gi}\n    - {mountPoint: /run/x, size: 1Gi}\n    - {mountPoint: /, size: 1Gi}\n    - {mountPoint: /var/run, size: 1Gi}\n",
		"s.yaml:10:20: spec.disk.fileSystems[0].mountPoint: \"/usr\" can't be a file system of its own: /usr has to be on the root file system: it has the programs that mount others\n" +
			"s.yaml:11:20: spec.disk.fileSystems[1].mountPoint: \"/etc/kubernetes\" can't be a file system of its own: /etc has to be on the root file system: it says what is mounted\n" +
			"s.yaml:12:20: spec.disk.fileSystems[2].mountPoint: \"/boot/efi\" can't be a file system of its own: /boot has to be on the root file system: GRUB reads it from there\n" +
			"s.yaml:13:20: spec.disk.fileSystems[3].mountPoint: \"/bin\" can't be a file system of its own: /bin is a link into /usr\n" +
			"s.yaml:14:20: spec.disk.fileSystems[4].mountPoint: \"/run/x\" can't be a file system of its own: /run is mounted by the node itself\n" +
			"s.yaml:15:20: spec.disk.fileSystems[5].mountPoint: \"/\" is not a mount point; allowed: an absolute path of letters, digits, _, - and ., without . and .. and without / at its end\n" +
			"s.yaml:16:20: spec.disk.fileSystems[6].mountPoint: \"/var/run\" can't be a file system of its own: /var/run is a link to /run",
	},
	{
		"mount points that are no paths, files, below links, and twice", "",
		"  files: [{path: /srv/a, content: x}]\n  links: [{path: /data, target: /mnt}]\n  disk:\n    size: 20Gi\n    fileSystems:\n" +
			"    - {mountPoint: /srv/a, size: 1Gi}\n    - {mountPoint: /data/b, size: 1Gi}\n    - {mountPoint: /var/, size: 1Gi}\n    - {mountPoint: /opt/*, size: 1Gi}\n" +
			"    - {mountPoint: /mnt, size: 1Gi}\n    - {mountPoint: /mnt, size: 1Gi, label: other}\n    - {size: 1Gi}\n",
		"s.yaml:13:20: spec.disk.fileSystems[0].mountPoint: \"/srv/a\" is no directory: spec.files[0].path makes /srv/a a file\n" +
			"s.yaml:14:20: spec.disk.fileSystems[1].mountPoint: \"/data/b\" is no directory: spec.links[0].path makes /data a link\n" +
			"s.yaml:15:20: spec.disk.fileSystems[2].mountPoint: \"/var/\" is not a mount point; allowed: an absolute path of letters, digits, _, - and ., without . and .. and without / at its end; did you mean \"/var\"?\n" +
			"s.yaml:16:20: spec.disk.fileSystems[3].mountPoint: \"/opt/*\" is not a mount point; allowed: an absolute path of letters, digits, _, - and ., without . and .. and without / at its end\n" +
			"s.yaml:18:20: spec.disk.fileSystems[5].mountPoint: \"/mnt\" is there twice; first as spec.disk.fileSystems[4].mountPoint\n" +
			"s.yaml:19:7: spec.disk.fileSystems[6].mountPoint: is required; allowed: an absolute path of letters, digits, _, - and ., without . and .. and without / at its end",
	},
	{
		"sizes of file systems", "",
		"  disk:\n    fileSystems:\n    - {mountPoint: /a, size: 1Mi}\n    - {mountPoint: /b, size: 3Ti}\n    - {mountPoint: /c, size: 70000001}\n" +
			"    - {mountPoint: /d}\n    - {mountPoint: /e, size: 1Gi, headroom: 1Gi}\n    - {mountPoint: /f, size: content, headroom: 3Ti}\n",
		"s.yaml:10:30: spec.disk.fileSystems[0].size: \"1Mi\" is too small; allowed: 64Mi to 2Ti, content\n" +
			"s.yaml:11:30: spec.disk.fileSystems[1].size: \"3Ti\" is too large; allowed: 64Mi to 2Ti, content\n" +
			"s.yaml:12:30: spec.disk.fileSystems[2].size: \"70000001\" is not a whole number of MiB; allowed: a multiple of 1Mi; did you mean \"67Mi\"?\n" +
			"s.yaml:13:7: spec.disk.fileSystems[3].size: is required; allowed: a size such as 20Gi, content\n" +
			"s.yaml:14:45: spec.disk.fileSystems[4].headroom: goes with size: content only\n" +
			"s.yaml:15:49: spec.disk.fileSystems[5].headroom: \"3Ti\" is too large; allowed: at most 2Ti",
	},
	{
		"disk that its file systems fill", "", "  disk: {fileSystems: [{mountPoint: /var, size: 6Gi}, {mountPoint: /data, size: 1Gi}]}\n",
		`s.yaml:8:3: spec.disk.size: "8Gi" leaves too little for the root file system: spec.disk.fileSystems take 7Gi; allowed: 9Gi or more, content`,
	},
	{
		"labels that are taken, too long, and twice", "",
		"  disk:\n    fileSystems:\n    - {mountPoint: /a, size: content, label: CIDATA}\n    - {mountPoint: /b, size: content, label: seventeen-letters}\n" +
			"    - {mountPoint: /srv/data, size: content}\n    - {mountPoint: /data, size: content}\n    - {mountPoint: /opt/root, size: content}\n",
		"s.yaml:10:46: spec.disk.fileSystems[0].label: \"CIDATA\" is the name of cloud-init's data source NoCloud\n" +
			"s.yaml:11:46: spec.disk.fileSystems[1].label: \"seventeen-letters\" is not a label; allowed: at most 16 letters, digits, _, - and .\n" +
			"s.yaml:13:7: spec.disk.fileSystems[3].label: \"data\" is there twice; first as spec.disk.fileSystems[2].label\n" +
			"s.yaml:14:7: spec.disk.fileSystems[4].label: \"root\" is the name of the root file system",
	},
	{
		"mount options that are several, or for other mounts", "",
		"  disk: {fileSystems: [{mountPoint: /a, size: content, mountOptions: ['noatime,ro', noauto, loop, noatime, noatime]}]}\n",
		"s.yaml:8:71: spec.disk.fileSystems[0].mountOptions[0]: \"noatime,ro\" is not a mount option; allowed: one option such as noatime or commit=30\n" +
			"s.yaml:8:85: spec.disk.fileSystems[0].mountOptions[1]: \"noauto\" would leave out of the node what the file system holds\n" +
			"s.yaml:8:93: spec.disk.fileSystems[0].mountOptions[2]: \"loop\" is not for the mount of a partition\n" +
			"s.yaml:8:108: spec.disk.fileSystems[0].mountOptions[4]: \"noatime\" is there twice; first as spec.disk.fileSystems[0].mountOptions[3]",
	},
}
