// Package distro is what differs between operating systems, as data.
//
// What comes in is a distribution's name and version, what goes out is a
// Release: its archives, its package names, its boot chain. The families
// (internal/distro/debian) fill it; no other package switches on a
// distribution's name.
package distro

import (
	"path"
	"strings"
)

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
	// may sign the archives' InRelease files; the node has them at KeyringPath.
	Keyring     []byte
	KeyringPath string
	// SourcesPath is the node's own list of archives. Its name says its format:
	// NAME.sources (deb822) or sources.list.
	SourcesPath string

	// Packages are installed on every node, on top of the essential ones.
	Packages []string
	// Software maps what infrastructures ask for to the release's packages.
	Software map[Software][]string
	// Tools, Compiler and ImageBase are what a release has to offer that is chosen as
	// the build's own: the programs that steps call, those on top of them that compile,
	// and what container images are made on top of.
	Tools, Compiler, ImageBase []string
	// Links and Presets are made before the first package is unpacked: link ->
	// target, and the text of files that packages' scripts go by.
	Links, Presets map[string]string
	// Directories are made too, though Exclude leaves out what they are for.
	Directories []string
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
	// FileLists is a glob of the lists of each package's files: see disk.Config.
	FileLists string
	// KernelArguments are what Kubernetes needs of this release's kernel.
	KernelArguments []string
	// SingleProcess says that one process runs all stages of cloud-init, so that
	// none of them can be run again: cloud-init 24.3 and later, but for what
	// Ubuntu keeps as it was in its earlier releases.
	SingleProcess bool
	// TimeDaemon names how the node's time daemon is told its servers: see
	// node.TimeServers.
	TimeDaemon string
}

// Archive is one suite of a package archive.
type Archive struct {
	URL string // http://deb.debian.org/debian
	// Suite is that of dists/SUITE (bookworm), or the path of a flat repository,
	// which ends in / and has no components.
	Suite      string
	Components []string
	// Keyring is what may sign this archive in place of the release's keyring
	// (ASCII armor, one block); nil for that.
	Keyring []byte
	// Unsigned archives have no signature to check: somebody has allowed it.
	Unsigned bool
}

// Flat says whether the archive has neither dists nor components
// (https://wiki.debian.org/DebianRepository/Format#Flat_Repository_Format).
func (a Archive) Flat() bool { return strings.HasSuffix(a.Suite, "/") }

// Dir is where the archive's Release file lies below its URL: "" is there.
func (a Archive) Dir() string {
	if a.Flat() {
		return strings.TrimPrefix(path.Clean("/"+a.Suite), "/")
	}
	return "dists/" + a.Suite
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

// Boot says where the release keeps its signed boot chain and its kernel,
// relative to the root of its tree.
type Boot struct {
	// Vendor is the directory under /EFI that the signed GRUB has built in.
	Vendor string
	// Shim, GRUB and MokManager are the signed EFI binaries.
	Shim, GRUB, MokManager string
	// Kernel and Initrd are the links that follow the newest kernel.
	Kernel, Initrd string
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
