// Package v1alpha1 is what users write: the NodeImage, its defaults and its rules.
//
// What comes in is one YAML (or JSON) file and the --set flags; what goes out
// is a NodeImage that keeps every rule and has its defaults filled in, or the
// list of everything that is wrong with it, each entry with its place in the
// file. The result depends on the arguments alone. What the rest of the program
// supports comes in as Known: this package imports none of it.
package v1alpha1

import "slices"

const (
	// APIVersion is the only value of apiVersion that this package reads.
	APIVersion = "nodesmith.dev/v1alpha1"
	// Kind is the only value of kind that this package reads.
	Kind = "NodeImage"
)

// What a spec that does not say otherwise means.
const (
	defaultArchitecture = "amd64"
	defaultFileMode     = "0644"
	defaultOwner        = "root:root"
	defaultShell        = "/bin/bash"
	defaultTimeZone     = "Etc/UTC"
)

// NodeImage describes one Kubernetes node image: an operating system, one
// Kubernetes version and the user's customizations, for one or more
// infrastructures. Its field names follow the Kubernetes API conventions.
//
// The comments of the fields below are what users read: nodesmith explain, the
// JSON Schema and docs/spec.md print them. Defaults are left to Default and
// examples to examples/full.yaml, which are printed beside them.
type NodeImage struct {
	// APIVersion is the version of this format.
	APIVersion string `json:"apiVersion"`
	// Kind is what the file describes.
	Kind string `json:"kind"`
	// Metadata names the image.
	Metadata Metadata `json:"metadata"`
	// Spec is what goes into the image. os, kubernetes and infrastructures have
	// to be given; everything else has a default that works.
	Spec Spec `json:"spec"`
}

// Metadata names the image.
type Metadata struct {
	// Name begins the name of every file that a build writes. It has the form
	// of a Kubernetes object name and at most 63 characters.
	Name string `json:"name"`
}

// Spec is what goes into the image.
type Spec struct {
	// OS is the operating system that the node runs.
	OS OS `json:"os"`
	// Kubernetes is what the node belongs to: every component of Kubernetes in
	// the image, and the container images that kubeadm asks for.
	Kubernetes Kubernetes `json:"kubernetes"`
	// ContainerImages are container images that the node has from the start,
	// beside those that kubeadm asks for: a node pulls none of them.
	ContainerImages []ContainerImage `json:"containerImages,omitempty"`
	// Infrastructures are the places the image shall run on: one disk each.
	Infrastructures []string `json:"infrastructures"`
	// Formats are written beside the file that each infrastructure imports (a
	// qcow2 for qemu), in which more tools read its disk.
	Formats []string `json:"formats,omitempty"`
	// Source is where the operating system and Kubernetes come from.
	Source Source `json:"source,omitzero"`
	// Architecture is that of the machine, as Debian and Go name it.
	Architecture string `json:"architecture,omitempty"`
	// ContainerRuntime is how containerd is set up.
	ContainerRuntime ContainerRuntime `json:"containerRuntime,omitzero"`
	// Kubelet is what kubelets on nodes of the image start with.
	Kubelet Kubelet `json:"kubelet,omitzero"`
	// Repositories are package repositories beside the distribution's own, for
	// packages. They are verified as strictly, and locked.
	Repositories []Repository `json:"repositories,omitempty"`
	// Packages are packages of the distribution or of a repository, beside those
	// that a node needs anyway. NAME takes the newest version when locking, NAME=VERSION that one.
	Packages []string `json:"packages,omitempty"`
	// Proxy is how the build, and if it is asked for the node, reach the network.
	Proxy Proxy `json:"proxy,omitzero"`
	// Files are regular files that the build puts into the image; directories
	// are made as needed. Each has exactly one of content and source.
	Files []File `json:"files,omitempty"`
	// Directories are directories that the build makes, empty or with all that a
	// folder of the build context holds.
	Directories []Directory `json:"directories,omitempty"`
	// Links are symbolic links that the build makes; directories are made as
	// needed.
	Links []Link `json:"links,omitempty"`
	// Scripts run at named points of the build, or once on the node. The build
	// runs them in the node's own tree as root, without network and without
	// services, and stops if one fails. They find LC_ALL=C.UTF-8, HOME=/root,
	// DEBIAN_FRONTEND=noninteractive, SOURCE_DATE_EPOCH (no file of the image is
	// newer), OS_DISTRO, OS_VERSION, OS_CODENAME and ARCHITECTURE; from
	// afterKubernetes on also KUBERNETES_VERSION, CONTAINERD_VERSION and
	// PAUSE_IMAGE; in final and firstBoot also IMAGE and INFRASTRUCTURE.
	Scripts []Script `json:"scripts,omitempty"`
	// KernelArguments are added to the kernel's command line in this order.
	// None contains white space, quotes or a backslash, so that one written
	// between single quotes means itself to a shell and to GRUB.
	KernelArguments []string `json:"kernelArguments,omitempty"`
	// Sysctls are kernel parameters by name (net.ipv4.ip_forward), set at boot.
	Sysctls map[string]string `json:"sysctls,omitempty" accept:"int"`
	// KernelModules are loaded at every boot, beside overlay and br_netfilter.
	// The build fails if the image's kernel has no such module.
	KernelModules []string `json:"kernelModules,omitempty"`
	// SystemdUnits are units that the build adds, extends, enables, disables or masks.
	SystemdUnits []SystemdUnit `json:"systemdUnits,omitempty"`
	// NTPServers are the time servers of the node, by name or address, in the
	// place of the distribution's own.
	NTPServers []string `json:"ntpServers,omitempty"`
	// TimeZone is a zone of the IANA database that the image's tzdata has.
	TimeZone string `json:"timeZone,omitempty"`
	// CACertificates are trusted by the node's programs, containerd's and the
	// kubelet's among them, besides the distribution's own.
	CACertificates []CACertificate `json:"caCertificates,omitempty"`
	// Groups are groups that the build creates, for users and for the owners of
	// files.
	Groups []Group `json:"groups,omitempty"`
	// Users are accounts that the build creates. They have no password: who has
	// no SSH key can't log in.
	Users []User `json:"users,omitempty"`
	// Disk is the virtual disk of the image.
	Disk Disk `json:"disk,omitzero"`
	// VSphere is the virtual machine that the OVA for vsphere describes.
	VSphere VSphere `json:"vsphere,omitzero"`
	// Publish is where build --publish puts the image.
	Publish PublishSpec `json:"publish,omitzero"`
	// AllowUnverified names inputs that may enter the image although nothing
	// vouches for them: Go module paths, and URLs of repositories that nobody
	// signs. The lock pins what they were.
	AllowUnverified []string `json:"allowUnverified,omitempty"`
}

// OS is an operating system and its release: debian, "12".
type OS struct {
	// Distro is the distribution.
	Distro string `json:"distro"`
	// Version is the distribution's release.
	Version string `json:"version" accept:"int"`
}

// Kubernetes is the version of every Kubernetes component in the image.
type Kubernetes struct {
	// Version is a semantic version in full, with a leading v.
	Version string `json:"version"`
}

// File is a regular file that the build puts into the image. Exactly one of
// Content and Source is set; Content points to an empty string for an empty file.
type File struct {
	// Path is where the file lies on the node: absolute, without . and .. in it.
	Path string `json:"path"`
	// Content is the file's text. A file without content and source is an
	// error; an empty one has the content "".
	Content *string `json:"content,omitempty"`
	// Source is the path of a file in the build context, the folder of the
	// NodeImage: relative to it, with slashes.
	Source string `json:"source,omitempty"`
	// Template makes the text a template in the language of Go's text/template:
	// {{.Image}}, {{.OSDistro}}, {{.OSVersion}}, {{.OSCodename}},
	// {{.KubernetesVersion}}, {{.ContainerdVersion}}, {{.PauseImage}},
	// {{.Infrastructure}} and {{.Architecture}} stand for what they name. Any
	// other name is an error.
	Template bool `json:"template,omitempty"`
	// Mode is the file's permissions: three or four octal digits, in quotes,
	// because 0644 alone is the number 420.
	Mode string `json:"mode,omitempty"`
	// Owner is USER:GROUP, each a name or a number.
	Owner string `json:"owner,omitempty"`
}

// SystemdUnit is a unit of systemd: one that Content makes, or one that the
// image has anyway. It says at least one thing about it.
type SystemdUnit struct {
	// Name is the unit's full name, with its type.
	Name string `json:"name"`
	// Content is the unit file; without it the unit is one that the image has.
	Content *string `json:"content,omitempty"`
	// DropIns are files that change or extend the unit, read in the order of
	// their names.
	DropIns []DropIn `json:"dropIns,omitempty"`
	// Enable starts the unit with what its [Install] section names, as
	// systemctl enable does.
	Enable bool `json:"enable,omitempty"`
	// Disable takes away what starts the unit at boot, as systemctl disable does:
	// something may still start it.
	Disable bool `json:"disable,omitempty"`
	// Mask makes it impossible to start the unit.
	Mask bool `json:"mask,omitempty"`
}

// DropIn is a file in a unit's .d directory.
type DropIn struct {
	// Name is the file's name, ending in .conf.
	Name string `json:"name"`
	// Content is the drop-in's text: sections and settings as in a unit file.
	Content string `json:"content"`
}

// CACertificate is a certificate that the node trusts. Exactly one of Content
// and Source is set.
type CACertificate struct {
	// Name is the certificate's file name on the node, without an extension.
	Name string `json:"name"`
	// Content is the certificate, one PEM block.
	Content string `json:"content,omitempty"`
	// Source is the path of a PEM file in the build context, the folder of the
	// NodeImage: relative to it, with slashes.
	Source string `json:"source,omitempty"`
}

// Group is a group of accounts.
type Group struct {
	// Name is the group's name.
	Name string `json:"name"`
	// GID is the group's number. By default it is the first one from 1000 on that
	// the image has free.
	GID string `json:"gid,omitempty" accept:"int"`
}

// User is an account that the build creates.
type User struct {
	// Name is the name to log in with; root is not one.
	Name string `json:"name"`
	// UID is the account's number, and that of the group of its own name. By
	// default it is the first one from 1000 on that the image has free.
	UID string `json:"uid,omitempty" accept:"int"`
	// SSHAuthorizedKeys are lines of authorized_keys(5), one public key each.
	SSHAuthorizedKeys []string `json:"sshAuthorizedKeys,omitempty"`
	// Groups are supplementary groups, of the image or of spec.groups.
	Groups []string `json:"groups,omitempty"`
	// Shell is the program that a login starts.
	Shell string `json:"shell,omitempty"`
	// Sudo lets the user run everything as root without a password.
	Sudo bool `json:"sudo,omitempty"`
}

// Default fills in every optional field that is empty and has a default.
// A second call changes nothing.
func (img *NodeImage) Default() {
	spec := &img.Spec
	setDefault(&spec.Architecture, defaultArchitecture)
	spec.Disk.setDefaults()
	setDefault(&spec.TimeZone, defaultTimeZone)
	spec.VSphere.setDefaults(spec.Disk.Firmware)
	spec.defaultSources()
	spec.Publish.setDefaults()
	// The caller may share the lists with another NodeImage.
	spec.Files = slices.Clone(spec.Files)
	for i := range spec.Files {
		setDefault(&spec.Files[i].Mode, defaultFileMode)
		setDefault(&spec.Files[i].Owner, defaultOwner)
	}
	spec.Directories = slices.Clone(spec.Directories)
	for i := range spec.Directories {
		setDefault(&spec.Directories[i].Mode, defaultDirectoryMode)
		setDefault(&spec.Directories[i].Owner, defaultOwner)
	}
	spec.Users = slices.Clone(spec.Users)
	for i := range spec.Users {
		setDefault(&spec.Users[i].Shell, defaultShell)
	}
}

// setDefault gives *field the value if it has none.
func setDefault[T comparable](field *T, value T) {
	var none T
	if *field == none {
		*field = value
	}
}
