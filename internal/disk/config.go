package disk

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/disk/fat"
	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// Config is all that decides a disk besides the tree and the epoch. The graph
// builder writes it as JSON; step-disk reads it.
type Config struct {
	// Tree is the directory that becomes the root file system; it is only read.
	Tree string `json:"tree"`
	// Output is the raw disk's path.
	Output string `json:"output"`
	// Size is the whole disk's, in bytes: a multiple of Alignment.
	Size size.Bytes `json:"size"`
	// Architecture is Debian's and Go's name of it: amd64.
	Architecture string      `json:"architecture"`
	Identifiers  Identifiers `json:"identifiers"`
	// Partitions are in their order on the disk.
	Partitions []Partition    `json:"partitions"`
	Boot       Boot           `json:"boot"`
	Root       RootFileSystem `json:"root"`
}

// Role says what a partition is for. A disk has at most one of each.
type Role string

// The roles. Which ones a disk has decides how it boots: from a BIOS when it
// has BIOSBoot, from UEFI when it has ESP.
const (
	BIOSBoot Role = "bios-boot" // GRUB's core image
	ESP      Role = "esp"       // the EFI system partition
	Root     Role = "root"      // the root file system
)

// roles holds every role's partition type. Root's depends on the architecture
// and is in architectures.
var roles = map[Role]gpt.GUID{BIOSBoot: gpt.BIOSBoot, ESP: gpt.EFISystem, Root: {}}

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
	// Size is a multiple of Alignment. The last partition may leave it out and
	// gets what is left: it is the one that can grow on the node.
	Size size.Bytes `json:"size,omitempty"`
}

// StandardPartitions is the layout of an image that boots on BIOS and UEFI: the
// EFI system partition is as large as FAT32 takes with 512-byte clusters and
// some room for later boot files.
func StandardPartitions() []Partition {
	return []Partition{
		{Role: BIOSBoot, Size: 1 * size.MiB},
		{Role: ESP, Size: 64 * size.MiB},
		{Role: Root},
	}
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

// RootFileSystem is the ext4 file system in the role Root.
type RootFileSystem struct {
	// Label is at most 16 bytes.
	Label string `json:"label"`
	// Features are all features that the file system has, in mke2fs's names: what
	// the target's boot loader, kernel and e2fsck understand.
	Features []string `json:"features"`
}

const (
	// Alignment is that of every partition's start and size.
	Alignment = size.MiB
	// MinRoot is the smallest root partition that Assemble makes.
	MinRoot = 16 * size.MiB
)

//go:embed assets/fstab
var assets embed.FS

var fstab = template.Must(template.ParseFS(assets, "assets/fstab"))

// Fstab returns the content of /etc/fstab for a disk with these identifiers and
// the roles of StandardPartitions.
func Fstab(ids Identifiers) ([]byte, error) {
	var b bytes.Buffer
	if err := fstab.Execute(&b, ids); err != nil {
		return nil, fmt.Errorf("fstab: %w", err)
	}
	return b.Bytes(), nil
}

// Validate returns everything that is wrong with c and can be said without
// looking at the tree.
func (c *Config) Validate() error {
	var problems []error
	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Tree == "" || c.Output == "" {
		complain("tree and output are needed")
	}
	architecture, known := architectures[c.Architecture]
	if !known {
		complain("architecture %q is not one that disks can be made for", c.Architecture)
	}
	if c.Identifiers.Disk == (gpt.GUID{}) || c.Identifiers.RootFileSystem == (gpt.GUID{}) || c.Identifiers.ESPVolume == 0 {
		complain("identifiers are missing")
	}
	for _, p := range c.Partitions {
		if c.Identifiers.Partitions[p.Role] == (gpt.GUID{}) {
			complain("identifiers.partitions has none for the role %q", p.Role)
		}
	}
	if _, err := c.layout(); err != nil {
		problems = append(problems, err)
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

// partition returns the index of the partition with a role.
func (c *Config) partition(role Role) (index int, has bool) {
	for i, p := range c.Partitions {
		if p.Role == role {
			return i, true
		}
	}
	return 0, false
}

// layout places the partitions one behind the other.
func (c *Config) layout() ([]gpt.Partition, error) {
	if c.Size <= 0 || c.Size%Alignment != 0 {
		return nil, fault.New(fault.BadSpec, "", "disk size %v is not a multiple of %v", c.Size, Alignment)
	}
	end := (gpt.LastUsable(c.Size.Sectors()) + 1).Bytes().AlignDown(Alignment)
	next := Alignment
	var placed []gpt.Partition
	seen := map[Role]bool{}
	for i, p := range c.Partitions {
		kind, known := roles[p.Role]
		if p.Role == Root {
			kind = architectures[c.Architecture].root
		}
		if !known || seen[p.Role] {
			return nil, fmt.Errorf("partition %d: role %q is unknown or there twice", i+1, p.Role)
		}
		seen[p.Role] = true
		length := p.Size
		if length == 0 && i == len(c.Partitions)-1 {
			length = end - next
		}
		if err := checkLength(p.Role, length, end-next); err != nil {
			return nil, err
		}
		placed = append(placed, gpt.Partition{
			Type: kind, ID: c.Identifiers.Partitions[p.Role], Name: string(p.Role),
			Start: next.Sectors(), Length: length.Sectors(),
		})
		next += length
	}
	return placed, nil
}

// checkLength says why a partition can't have this length where room is left.
func checkLength(role Role, length, room size.Bytes) error {
	least := Alignment
	switch role {
	case ESP:
		least = fat.MinSize.AlignUp(Alignment)
	case Root:
		least = MinRoot
	case BIOSBoot:
	}
	switch {
	case length > room || room < least:
		return fault.New(fault.BadSpec, "make disk.size larger", "the disk has no room for partition %s: %v are left, %v are needed",
			role, max(room, 0), max(length, least))
	case length < least || length%Alignment != 0:
		return fmt.Errorf("partition %s: size %v is not a multiple of %v, at least %v", role, length, Alignment, least)
	}
	return nil
}
