package debian

import "nodesmith.dev/nodesmith/internal/distro"

// packages is what every node of the family needs on top of the essential
// packages; each release adds its kernel and what has other names elsewhere.
var packages = []string{
	// boot
	"initramfs-tools", "grub-efi-amd64-signed", "shim-signed", "grub-pc-bin",
	// init and users
	"systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "passwd", "mount", "tzdata", "apparmor",
	// network
	"netplan.io", "libnss-myhostname", "netbase", "iproute2", "iputils-ping",
	// first boot
	"cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", "dosfstools",
	// access
	"openssh-server", "sudo",
	// what kubelet, kubeadm, containerd and CNI plugins call
	"conntrack", "ethtool", "socat", "iptables", "nftables", "ebtables", "ipset", "kmod", "libseccomp2", "procps", "util-linux",
	// what Cluster API's contract names besides
	"auditd", "curl", "jq", "bash-completion",
	// time, certificates, package management
	"chrony", "ca-certificates", "apt", "gpgv",
}

// software is what infrastructures ask for.
var software = map[distro.Software][]string{
	distro.VMwareTools:    {"open-vm-tools"},
	distro.QEMUGuestAgent: {"qemu-guest-agent"},
	distro.AzureAgent:     {"waagent"},
	distro.HyperVDaemons:  {"hyperv-daemons"},
	distro.AWSCLI:         {"awscli"},
	distro.EC2Tools:       {"amazon-ec2-utils"},
	distro.ISCSI:          {"open-iscsi", "lsscsi"},
	distro.NFS:            {"nfs-common"},
	distro.LVM:            {"lvm2"},
	distro.XFS:            {"xfsprogs"},
	distro.IPVS:           {"ipvsadm"},
}

// tools are the packages of the tree that the build's own programs come from.
var tools = []string{"apt", "xz-utils", "e2fsprogs", "grub-common", "grub-pc-bin"}

// compiler are the packages that it takes besides to compile what is in C.
var compiler = []string{"gcc", "libc6-dev", "libseccomp-dev", "pkgconf"}

// imageBase are the packages that container images are made on top of.
var imageBase = []string{"ca-certificates", "iptables", "nftables", "kmod"}

// exclude and include: nobody reads manuals on a node; the licences stay.
var (
	exclude = []string{
		"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/lintian/*",
		"/usr/share/linda/*", "/usr/share/locale/*", "/usr/share/groff/*", "/usr/share/help/*",
	}
	include = []string{"/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias"}
)

// directories: packages' scripts link or move manuals that are not there, and some
// fail without their directory.
var directories = []string{
	"usr/share/man/man1", "usr/share/man/man2", "usr/share/man/man3", "usr/share/man/man4",
	"usr/share/man/man5", "usr/share/man/man6", "usr/share/man/man7", "usr/share/man/man8",
}

// presets keep openssh-server from making keys, of a second and never the same,
// which host removes: a node makes its own.
var presets = map[string]string{
	"etc/ssh/ssh_host_rsa_key": noKey, "etc/ssh/ssh_host_ecdsa_key": noKey, "etc/ssh/ssh_host_ed25519_key": noKey,
}

const noKey = "made at the first boot\n"

// reset: open-iscsi's startup-checks.sh draws the name of an initiator whose
// file says so.
var reset = map[string]string{"/etc/iscsi/initiatorname.iscsi": "GenerateName=yes\n"}

// host is what configuring these packages leaves of the machine it ran on.
var host = []string{
	"/etc/ssh/ssh_host_*", "/var/lib/dbus/machine-id", "/etc/hostname",
	"/etc/nvme/hostid", "/etc/nvme/hostnqn", "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret",
	"/var/log/*.log", "/var/log/apt/*", "/var/cache/apt/*.bin", "/var/cache/apt/archives/*.deb",
	"/var/lib/apt/lists/*", "/var/cache/ldconfig/aux-cache", "/var/cache/debconf/*-old",
	"/var/lib/dpkg/*-old", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock",
	"/etc/subuid-", "/etc/subgid-", "/root/.bash_history", "/tmp/*", "/var/tmp/*", "/run/*",
}
