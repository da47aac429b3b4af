package debian

import (
	_ "embed"
	"slices"

	"nodesmith.dev/nodesmith/internal/distro"
)

// The keys that sign the archives, exported from the package
// debian-archive-keyring 2023.3+deb12u2.
var (
	//go:embed keyrings/debian-archive-bookworm.asc
	bookwormKeys []byte
	//go:embed keyrings/debian-archive-trixie.asc
	trixieKeys []byte
)

// debians lists Debian 12 and 13.
func debians() []distro.Release {
	return []distro.Release{debian("12", "bookworm"), debian("13", "trixie")}
}

func debian(version, codename string) distro.Release {
	r := family()
	r.Distro, r.Title, r.Version, r.Codename = "debian", "Debian", version, codename
	r.Archives = []distro.Archive{
		{URL: "http://deb.debian.org/debian", Suite: codename, Components: []string{"main"}},
		{URL: "http://deb.debian.org/debian", Suite: codename + "-updates", Components: []string{"main"}},
		{URL: "http://deb.debian.org/debian-security", Suite: codename + "-security", Components: []string{"main"}},
	}
	// Each release's point updates and security are signed by its own keys and,
	// for a while, by its predecessor's.
	r.Keyring = slices.Concat(bookwormKeys, trixieKeys)
	r.KeyringPath = "/usr/share/keyrings/debian-archive-keyring.gpg"
	r.SourcesPath = "/etc/apt/sources.list.d/debian.sources"
	r.Packages = slices.Concat(packages, []string{
		"linux-image-cloud-amd64", "debian-archive-keyring",
		// it spares a conversion that the build has done
		"usr-is-merged",
		"systemd-resolved", "isc-dhcp-client",
	})
	r.Software, r.Tools, r.Compiler, r.ImageBase = software, tools, compiler, imageBase
	r.Unpacker = []string{"libc6", "liblzma5", "xz-utils"}
	r.Guest = distro.Guest{VMware: "debian11_64Guest", CIM: 96}
	r.SingleProcess = version != "12" // cloud-init 22.4
	r.Boot = distro.Boot{
		Vendor:     "debian",
		Shim:       "/usr/lib/shim/shimx64.efi.signed",
		GRUB:       "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		MokManager: "/usr/lib/shim/mmx64.efi.signed",
		Kernel:     "/vmlinuz",
		Initrd:     "/initrd.img",
	}
	return r
}
