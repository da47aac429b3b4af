// Package distro is what differs between operating systems, as data.
//
// What comes in is a distribution's name and version, what goes out is a
// Release: its archives, its package names, its boot chain. The families
// (internal/distro/debian) fill it; no other package switches on a
// distribution's name.
package distro

// Release is one version of one distribution for one architecture.
type Release struct {
	Family       string // debian
	Distro       string // debian
	Title        string // Debian
	Version      string // 12
	Codename     string // bookworm
	Architecture string // amd64

	// Archives are the suites that packages come from, as the publisher names
	// them; mirrors are configuration.
	Archives []Archive
	// Keyring holds the OpenPGP public keys (ASCII armor, several blocks) that
	// may sign the archives' InRelease files.
	Keyring []byte

	// Packages are installed on every node, on top of the essential ones.
	Packages []string
	// Software maps what infrastructures ask for to the release's packages.
	Software map[Software][]string
	// Tools and ImageBase are what a release has to offer that is chosen as the
	// build's own: the programs that steps call, and what container images are
	// made on top of.
	Tools, ImageBase []string
	// Links are made before the first package is unpacked: link -> target.
	Links map[string]string
	// First are configured before all other essential packages.
	First []string
	// Exclude and Include are dpkg's path filters for what a node can do without.
	Exclude, Include []string
	// Host lists globs of what configuring packages leaves behind of the
	// build: removed in the same layer, so no layer or cache ever holds it.
	Host []string
	// Empty lists files of that kind that must exist but hold nothing.
	Empty []string

	// Reset maps files that name the machine, where a package made one, to the
	// content that has each machine make its own.
	Reset map[string]string

	// Unpacker are the packages that it takes to run xz.
	Unpacker []string

	Boot  Boot
	Guest Guest
	// Ext4Features are all features of the root file system, in mke2fs's names:
	// what the release's own GRUB, kernel and e2fsck understand.
	Ext4Features []string
	// Sources is the content of the node's own package sources file, at
	// SourcesPath.
	SourcesPath string
	Sources     []byte
}

// Archive is one suite of a package archive.
type Archive struct {
	URL        string // http://deb.debian.org/debian
	Suite      string // bookworm
	Components []string
}

// Software is something that an infrastructure needs on its nodes, whatever the
// packages are called that bring it.
type Software string

// What infrastructures ask for.
const (
	VMwareTools    Software = "VMware Tools"
	QEMUGuestAgent Software = "QEMU guest agent"
	AzureAgent     Software = "Azure Linux agent"
	HyperVDaemons  Software = "Hyper-V daemons"
	AWSCLI         Software = "AWS CLI"
	EC2Tools       Software = "EC2 device names"
	ISCSI          Software = "iSCSI initiator"
	NFS            Software = "NFS client"
	LVM            Software = "LVM"
	XFS            Software = "XFS tools"
	IPVS           Software = "IPVS tools"
)

// SoftwareNames lists them all.
func SoftwareNames() []Software {
	return []Software{
		VMwareTools, QEMUGuestAgent, AzureAgent, HyperVDaemons, AWSCLI, EC2Tools, ISCSI, NFS, LVM, XFS, IPVS,
	}
}

// Boot says where the release keeps its signed boot chain, relative to the
// root of its tree.
type Boot struct {
	// Vendor is the directory under /EFI that the signed GRUB has built in.
	Vendor string
	// Shim, GRUB and MokManager are the signed EFI binaries.
	Shim, GRUB, MokManager string
}

// Guest is what VMware's products call the release.
type Guest struct {
	// VMware is the newest name for the distribution in the API of vSphere 7.0:
	// a vSphere that does not know a name refuses the virtual machine.
	VMware string
	// CIM is the number of the distribution in CIM_OperatingSystem.OSType.
	CIM int
}

// Family is one way of making releases: one package format and its tools.
type Family interface {
	// Releases lists every release of the family, newest last.
	Releases() []Release
}
