// Package debian is the family of distributions whose packages are .deb files.
package debian

import (
	_ "embed"
	"fmt"

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

// ext4Features are those of mke2fs 1.47.0 less what the GRUB 2.06 of Debian 12
// can't read (metadata_csum_seed) and its e2fsck does not know (orphan_file).
// Debian 13 loses nothing by them.
var ext4Features = []string{
	"has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
	"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
}

// Family implements distro.Family.
type Family struct{}

// Releases lists Debian 12 and 13, oldest first.
func (Family) Releases() []distro.Release {
	return []distro.Release{
		release("12", "bookworm"),
		release("13", "trixie"),
	}
}

func release(version, codename string) distro.Release {
	r := distro.Release{
		Family: "debian", Distro: "debian", Title: "Debian", Version: version, Codename: codename, Architecture: "amd64",
		Archives: []distro.Archive{
			{URL: "http://deb.debian.org/debian", Suite: codename, Components: []string{"main"}},
			{URL: "http://deb.debian.org/debian", Suite: codename + "-updates", Components: []string{"main"}},
			{URL: "http://deb.debian.org/debian-security", Suite: codename + "-security", Components: []string{"main"}},
		},
		// Each release's point updates and security are signed by its own keys
		// and, for a while, by its predecessor's.
		Keyring:  append(append([]byte{}, bookwormKeys...), trixieKeys...),
		Packages: packages, Software: software, Tools: tools, ImageBase: imageBase,
		Links: map[string]string{
			"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
			"usr/bin/awk": "mawk",
		},
		First:    []string{"base-passwd"},
		Unpacker: []string{"libc6", "liblzma5", "xz-utils"},
		Exclude:  exclude, Include: include,
		Host: host, Empty: []string{"/etc/machine-id"}, Reset: reset,
		Boot: distro.Boot{
			Vendor:     "debian",
			Shim:       "/usr/lib/shim/shimx64.efi.signed",
			GRUB:       "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
			MokManager: "/usr/lib/shim/mmx64.efi.signed",
		},
		Guest:        distro.Guest{VMware: "debian11_64Guest", CIM: 96},
		Ext4Features: ext4Features,
		SourcesPath:  "/etc/apt/sources.list.d/debian.sources",
	}
	for _, a := range r.Archives {
		r.Sources = fmt.Appendf(r.Sources, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n", a.URL, a.Suite)
	}
	return r
}
