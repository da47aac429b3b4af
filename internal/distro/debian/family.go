// Package debian is the family of distributions whose packages are .deb files:
// Debian and Ubuntu.
package debian

import (
	"maps"

	"nodesmith.dev/nodesmith/internal/distro"
)

// Family implements distro.Family.
type Family struct{}

// Releases lists the releases of Debian, then those of Ubuntu, oldest first.
func (Family) Releases() []distro.Release {
	return append(debians(), ubuntus()...)
}

// family is what all releases have in common.
func family() distro.Release {
	return distro.Release{
		Family: "debian", Architecture: "amd64",
		Links: map[string]string{
			"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
			"usr/bin/awk": "mawk",
		},
		Presets:      maps.Clone(presets),
		Directories:  directories,
		First:        []string{"base-passwd"},
		Exclude:      exclude,
		Include:      include,
		Host:         host,
		Empty:        []string{"/etc/machine-id"},
		Reset:        reset,
		Ext4Features: ext4Features,
		FileLists:    "/var/lib/dpkg/info/*.list",
		TimeDaemon:   "chrony",
	}
}

// ext4Features are those of mke2fs 1.47.0 less what the GRUB 2.06 of Debian 12
// and Ubuntu 22.04 can't read (metadata_csum_seed) and the e2fsck of releases
// before Debian 13 does not know (orphan_file). All of them are older than the
// e2fsprogs 1.45.5 and GRUB 2.04 of Ubuntu 20.04; nothing is lost by them.
var ext4Features = []string{
	"has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
	"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
}
