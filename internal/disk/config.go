package disk

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Config is all that decides a disk besides the trees and the epoch. The graph
// builder writes it as JSON; step-disk reads it.
type Config struct {
	// Output is the directory that the disk's map and metadata are put into.
	Output string `json:"output"`
	// Size is the whole disk's, in bytes: a multiple of Alignment. Zero makes it
	// as large as its partitions need, in whole GiB, the unit of most clouds.
	Size size.Bytes `json:"size,omitempty"`
	// Architecture is Debian's and Go's name of it: amd64.
	Architecture string      `json:"architecture"`
	Identifiers  Identifiers `json:"identifiers"`
	// Partitions are in their order on the disk.
	Partitions []Partition `json:"partitions"`
	// Whiteouts is the file that lists those that the trees could not hold
	// (package whiteout); none if it is empty.
	Whiteouts string `json:"whiteouts,omitempty"`
	Boot      Boot   `json:"boot"`
	// Features are all features of the file systems, in mke2fs's names: what the
	// target's boot loader, kernel and e2fsck understand, and package ext4 writes.
	Features []string `json:"features"`
	// FileLists is a glob of files of one directory of the target, which list the
	// paths of what changes together, one a line, such as those of a package. What a
	// list has lies together on the disk. Empty where there is no such thing.
	FileLists string `json:"fileLists,omitempty"`
	// Added are the names of those lists, without their extension, that the spec
	// adds to the operating system.
	Added []string `json:"added,omitempty"`
}

// Role says what a partition is for. A disk has at most one of each but Data.
type Role string

// The roles. Which ones a disk has decides how it boots: from a BIOS when it
// has BIOSBoot, from UEFI when it has ESP.
const (
	BIOSBoot Role = "bios-boot" // GRUB's core image
	ESP      Role = "esp"       // the EFI system partition
	Root     Role = "root"      // the root file system
	Data     Role = "data"      // another file system
)

// architectures holds what a disk's content depends on.
var architectures = map[string]struct {
	// efi is how UEFI 2.10, section 3.5.1.1, abbreviates it in file names.
	efi  string
	root gpt.GUID
	bios bool
}{
	"amd64": {efi: "x64", root: gpt.LinuxRootX8664, bios: true},
}

// Partition is one partition of the disk.
type Partition struct {
	Role Role `json:"role"`
	// Size is a multiple of Alignment. Zero is for the last partition of a disk
	// whose size is given, which gets what is left: it is the one that can grow
	// on the node; and for file systems that are sized to their content.
	Size size.Bytes `json:"size,omitempty"`
	// FileSystem is what Root and Data hold.
	FileSystem *FileSystem `json:"fileSystem,omitempty"`
}

// FileSystem is an ext4 file system of the disk.
type FileSystem struct {
	// MountPoint is where the node mounts it, an absolute path: / for the root.
	MountPoint string `json:"mountPoint"`
	// MountOptions are those of fstab.
	MountOptions []string `json:"mountOptions,omitempty"`
	// Tree is the directory that becomes the file system; it is only read.
	// Directories that others are mounted on are empty in it.
	Tree string `json:"tree"`
	// Label is at most 16 bytes. It also is the partition's name.
	Label string `json:"label"`
	// Headroom is what stays free when the size follows from the content.
	Headroom size.Bytes `json:"headroom,omitempty"`
}

// rootDir is where the root file system is mounted.
const rootDir = "/"

// RootFileSystem is the file system of the role Root; tree and headroom are its.
func RootFileSystem(headroom size.Bytes) *FileSystem {
	return &FileSystem{MountPoint: rootDir, MountOptions: []string{"errors=remount-ro"}, Label: string(Root), Headroom: headroom}
}

// firmwarePartitions are what each firmware starts a boot loader from. The EFI
// system partition is as large as FAT32 takes with 512-byte clusters and some
// room for later boot files.
var firmwarePartitions = []struct {
	firmware string
	Partition
}{
	{"bios", Partition{Role: BIOSBoot, Size: 1 * size.MiB}},
	{"uefi", Partition{Role: ESP, Size: 64 * size.MiB}},
}

// Layout returns the partitions of a disk that boots on each firmware (bios,
// uefi): theirs, then those of data, and root as the last one, which can grow.
func Layout(firmware []string, data []Partition, root *FileSystem) []Partition {
	var partitions []Partition
	for _, p := range firmwarePartitions {
		if slices.Contains(firmware, p.firmware) {
			partitions = append(partitions, p.Partition)
		}
	}
	partitions = append(partitions, data...)
	return append(partitions, Partition{Role: Root, FileSystem: root})
}

// Boot says where the boot loaders come from.
type Boot struct {
	// GRUBModules is the directory of GRUB's i386-pc modules on the machine that
	// assembles: /usr/lib/grub/i386-pc. Needed for the role BIOSBoot.
	GRUBModules string `json:"grubModules,omitempty"`
	// EFI names files of the tree. Needed for the role ESP.
	EFI EFI `json:"efi,omitzero"`
}

// EFI is a distribution's signed boot chain. Paths are relative to the tree's
// root, with or without a leading slash, and may not be links that leave it.
type EFI struct {
	// Vendor is the directory in EFI/ where the signed GRUB looks for its
	// configuration: the prefix that is built into it.
	Vendor     string `json:"vendor"`
	Shim       string `json:"shim"`
	GRUB       string `json:"grub"`
	MOKManager string `json:"mokManager"`
}

const (
	// Alignment is that of every partition's start and size.
	Alignment = size.MiB
	// MinFileSystem is the smallest file system that Assemble makes.
	MinFileSystem = 16 * size.MiB
)

// Validate returns everything that is wrong with c and can be said without
// looking at the trees.
func (c *Config) Validate() error {
	var problems []error
	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Output == "" {
		complain("output is needed")
	}
	architecture, known := architectures[c.Architecture]
	if !known {
		complain("architecture %q is not one that disks can be made for", c.Architecture)
	}
	for _, p := range c.Partitions {
		problems = append(problems, c.checkPartition(p))
	}
	sized := c.sized(c.contents())
	if _, err := sized.layout(); err != nil {
		problems = append(problems, err)
	}
	if c.Identifiers.Disk == (gpt.GUID{}) || c.Identifiers.ESPVolume == 0 {
		complain("identifiers are missing")
	}
	if _, has := c.partition(Root); !has {
		complain("there is no partition with the role %s", Root)
	}
	if _, has := c.partition(BIOSBoot); has && (c.Boot.GRUBModules == "" || !architecture.bios) {
		complain("the role %s needs boot.grubModules and an architecture that has a BIOS", BIOSBoot)
	}
	if _, has := c.partition(ESP); has {
		e := c.Boot.EFI
		if e.Vendor == "" || e.Shim == "" || e.GRUB == "" || e.MOKManager == "" {
			complain("the role %s needs boot.efi with vendor, shim, grub and mokManager", ESP)
		}
		if strings.ContainsAny(e.Vendor, `/\.`) || strings.EqualFold(e.Vendor, "BOOT") {
			complain("boot.efi.vendor %q is not the name of one directory beside EFI/BOOT", e.Vendor)
		}
	}
	return errors.Join(problems...)
}

// checkPartition says what is wrong with a partition by itself.
func (c *Config) checkPartition(p Partition) error {
	f := p.FileSystem
	switch {
	case (p.Role == Root || p.Role == Data) != (f != nil):
		return fmt.Errorf("partition %s: the roles %s and %s have a file system, others have none", p.Role, Root, Data)
	case f == nil && c.Identifiers.Partitions[p.key()] == (gpt.GUID{}):
		return fmt.Errorf("identifiers.partitions has none for %s", p.key())
	case f == nil:
		return nil
	case !strings.HasPrefix(f.MountPoint, "/") || f.MountPoint != path.Clean(f.MountPoint):
		return fmt.Errorf("partition %s: mount point %q is not an absolute path", p.Role, f.MountPoint)
	case (p.Role == Root) != (f.MountPoint == rootDir):
		return fmt.Errorf("partition %s is mounted on %s", p.Role, f.MountPoint)
	case f.Tree == "" || f.Label == "" || f.Headroom < 0:
		return fmt.Errorf("file system %s needs a tree, a label and no negative headroom", f.MountPoint)
	case c.Identifiers.Partitions[p.key()] == (gpt.GUID{}), c.Identifiers.FileSystems[f.MountPoint].UUID == (gpt.GUID{}):
		return fmt.Errorf("identifiers has none for the file system %s", f.MountPoint)
	}
	return nil
}

// key is the partition's in Identifiers.Partitions.
func (p Partition) key() string {
	if p.Role == Data && p.FileSystem != nil {
		return p.FileSystem.MountPoint
	}
	return string(p.Role)
}

// name is the partition's in the table.
func (p Partition) name() string {
	if p.Role == Data && p.FileSystem != nil {
		return p.FileSystem.Label
	}
	return string(p.Role)
}

// partition returns the index of the first partition with a role.
func (c *Config) partition(role Role) (index int, has bool) {
	index = slices.IndexFunc(c.Partitions, func(p Partition) bool { return p.Role == role })
	return index, index >= 0
}
