package debian

import (
	_ "embed"
	"maps"
	"slices"

	"nodesmith.dev/nodesmith/internal/distro"
)

// ubuntuKeys are the keys of 2012 and 2018 that sign the archive, exported from
// Debian's package ubuntu-keyring 2023.11.28.1-0.2.
//
//go:embed keyrings/ubuntu-archive.asc
var ubuntuKeys []byte

// What Ubuntu's packages go by when they are installed.
var (
	// kernelLinks puts the links to the newest kernel into /boot, where Ubuntu's
	// linux-base has them anyway (kernel-img.conf(5)).
	//go:embed assets/ubuntu/etc/kernel-img.conf
	kernelLinks string
	// noSnapd keeps snapd out, whatever recommends it: a node's software changes
	// when the node is replaced, and snapd updates its own.
	//go:embed assets/ubuntu/etc/apt/preferences.d/no-snapd
	noSnapd string
)

// ubuntuArchive and ubuntuSecurity are where Ubuntu's own sources.list points.
const (
	ubuntuArchive  = "http://archive.ubuntu.com/ubuntu"
	ubuntuSecurity = "http://security.ubuntu.com/ubuntu"
)

// ubuntus lists the releases with long-term support. universe has what main
// lacks of a node: ebtables, ipset, jq and socat were there in one release or
// another.
func ubuntus() []distro.Release {
	focal := ubuntu("20.04", "focal")
	// Its first kernel, 5.4, and its hybrid hierarchy are older than what the
	// kubelet asks of cgroup v2 (5.8) and, from v1.35 on, insists on.
	focal.Packages = append(focal.Packages, "linux-image-virtual-hwe-20.04", "isc-dhcp-client")
	focal.KernelArguments = []string{"systemd.unified_cgroup_hierarchy=1"}
	focal.Software[distro.HyperVDaemons] = []string{"linux-cloud-tools-virtual-hwe-20.04"}
	focal.Software[distro.EC2Tools] = nil // not yet there; udev's own names for EBS volumes stay
	focal.TimeDaemon = "chrony 3"
	focal.SourcesPath = "/etc/apt/sources.list"

	jammy := ubuntu("22.04", "jammy")
	jammy.Packages = append(jammy.Packages, "linux-image-virtual", "isc-dhcp-client")
	jammy.SourcesPath = "/etc/apt/sources.list"

	noble := ubuntu("24.04", "noble")
	// systemd's resolver became a package of its own after 22.04.
	noble.Packages = append(noble.Packages, "linux-image-virtual", "dhcpcd-base", "systemd-resolved")
	noble.Software[distro.AWSCLI] = nil // taken out of the archive before 24.04
	noble.SourcesPath = "/etc/apt/sources.list.d/ubuntu.sources"

	return []distro.Release{focal, jammy, noble}
}

func ubuntu(version, codename string) distro.Release {
	r := family()
	r.Distro, r.Title, r.Version, r.Codename = "ubuntu", "Ubuntu", version, codename
	components := []string{"main", "universe"}
	r.Archives = []distro.Archive{
		{URL: ubuntuArchive, Suite: codename, Components: components},
		{URL: ubuntuArchive, Suite: codename + "-updates", Components: components},
		{URL: ubuntuSecurity, Suite: codename + "-security", Components: components},
	}
	r.Keyring, r.KeyringPath = ubuntuKeys, "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
	r.Packages = slices.Concat(packages, []string{"ubuntu-keyring"})
	r.Software = maps.Clone(software)
	r.Software[distro.AzureAgent] = []string{"walinuxagent"}
	r.Software[distro.HyperVDaemons] = []string{"linux-cloud-tools-virtual"}
	r.Presets["etc/kernel-img.conf"] = kernelLinks
	r.Presets["etc/apt/preferences.d/no-snapd"] = noSnapd
	r.Guest = distro.Guest{VMware: "ubuntu64Guest", CIM: 94}
	r.Boot = distro.Boot{
		Vendor: "ubuntu",
		// Without ".latest" it is a link of update-alternatives, to the latest
		// or the previous one.
		Shim:       "/usr/lib/shim/shimx64.efi.signed.latest",
		GRUB:       "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		MokManager: "/usr/lib/shim/mmx64.efi", // signed with a key that shim has built in
		Kernel:     "/boot/vmlinuz",
		Initrd:     "/boot/initrd.img",
	}
	return r
}
