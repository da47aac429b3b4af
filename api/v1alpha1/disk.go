package v1alpha1

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// What a disk that does not say otherwise is. The headroom is for disks and
// file systems that are sized to their content.
const (
	defaultDiskSize SizeOrContent = 8 << 30
	defaultHeadroom Size          = 2 << 30
)

// diskFirmware is what a machine may start from, in the order of messages:
// all that there is.
var diskFirmware = []string{"bios", "uefi"}

// The disk holds an operating system and Kubernetes with all container images,
// and is cut into partitions that begin at whole MiB. At 2 TiB the BIOS's and
// older clouds' 32-bit sector numbers end.
const (
	diskUnit          Size = 1 << 20
	minDiskSize       Size = 2 << 30
	maxDiskSize       Size = 2 << 40
	minFileSystemSize Size = 64 << 20
)

// Disk is the virtual disk of the image.
type Disk struct {
	// Size is the disk's size as the image is made. content makes it as large as
	// what it holds and the headroom, in whole GiB. The root file system grows to
	// the size of the disk that it boots from.
	Size SizeOrContent `json:"size,omitzero" accept:"int"`
	// Headroom is the room that size: content leaves free on the root file
	// system, 2Gi if nothing is said. The kubelet evicts pods from a node with
	// less than 15% free.
	Headroom Size `json:"headroom,omitzero" accept:"int"`
	// Firmware is what the disk boots from. Each one brings a partition with a
	// boot loader of its own.
	Firmware []string `json:"firmware,omitempty"`
	// FileSystems are file systems besides the root, in partitions of their own
	// in this order: each takes what the image has at its mount point, or is
	// empty. They are ext4 and keep their sizes; only the root grows.
	FileSystems []FileSystem `json:"fileSystems,omitempty"`
}

// FileSystem is a file system of the disk besides the root.
type FileSystem struct {
	// MountPoint is the directory that the node mounts it on. It is made if the
	// image has none; directories sets its mode and owner.
	MountPoint string `json:"mountPoint"`
	// Size is the size of its partition. content makes it as large as what it
	// holds and the headroom.
	Size SizeOrContent `json:"size" accept:"int"`
	// Headroom is the room that size: content leaves free, 2Gi if nothing is
	// said. The file system does not grow.
	Headroom Size `json:"headroom,omitzero" accept:"int"`
	// Label is its name and its partition's; the last part of the mount point if
	// nothing is said.
	Label string `json:"label,omitempty"`
	// MountOptions are those of fstab, one in each item.
	MountOptions []string `json:"mountOptions,omitempty"`
}

// MountPoints lists where the disk's file systems besides the root are mounted.
func (d Disk) MountPoints() []string {
	points := make([]string, len(d.FileSystems))
	for i, f := range d.FileSystems {
		points[i] = f.MountPoint
	}
	return points
}

// setDefaults fills in what is empty.
func (d *Disk) setDefaults() {
	setDefault(&d.Size, defaultDiskSize)
	if d.Size == Content {
		setDefault(&d.Headroom, defaultHeadroom)
	}
	if len(d.Firmware) == 0 {
		d.Firmware = slices.Clone(diskFirmware)
	}
	d.FileSystems = slices.Clone(d.FileSystems) // the caller may share it
	for i := range d.FileSystems {
		f := &d.FileSystems[i]
		if f.Size == Content {
			setDefault(&f.Headroom, defaultHeadroom)
		}
		if mountPointSyntax.ok(f.MountPoint) {
			setDefault(&f.Label, path.Base(f.MountPoint))
		}
	}
}

// onTheRoot are directories that can't have a file system of their own, nor
// what is below them, with the reason.
var onTheRoot = []struct{ path, why string }{
	{"/bin", "is a link into /usr"},
	{"/boot", "has to be on the root file system: GRUB reads it from there"},
	{"/dev", "is mounted by the node itself"},
	{"/etc", "has to be on the root file system: it says what is mounted"},
	{"/lib", "is a link into /usr"},
	{"/lib32", "is a link into /usr"},
	{"/lib64", "is a link into /usr"},
	{"/libx32", "is a link into /usr"},
	{"/proc", "is mounted by the node itself"},
	{"/run", "is mounted by the node itself"},
	{"/sbin", "is a link into /usr"},
	{"/sys", "is mounted by the node itself"},
	{"/usr", "has to be on the root file system: it has the programs that mount others"},
	{"/var/lock", "is a link into /run"},
	{"/var/run", "is a link to /run"},
}

// takenLabels are what other things on a node's disks are called: the disk's
// own partitions, and the disks that cloud-init takes bootstrap data from.
var takenLabels = map[string]string{
	"root": "the root file system", "esp": "the EFI system partition", "bios-boot": "the BIOS boot partition",
	"cidata": "cloud-init's data source NoCloud", "config-2": "cloud-init's data source ConfigDrive", "context": "cloud-init's data source OpenNebula",
}

// disk checks the disk and its file systems.
func (c *checker) disk(disk Disk) {
	c.size("spec.disk.size", disk.Size, minDiskSize)
	c.headroom("spec.disk.headroom", disk.Size, disk.Headroom)
	for at, firmware := range c.unique("spec.disk.firmware", disk.Firmware) {
		c.oneOf(at, firmware, "is not a firmware that disks can be made for", diskFirmware)
	}
	before := len(c.errs)
	points, labels := map[string]string{}, map[string]string{}
	var taken Size
	for i, f := range disk.FileSystems {
		at := fmt.Sprintf("spec.disk.fileSystems[%d]", i)
		c.mountPoint(at+".mountPoint", f.MountPoint, points)
		if f.Size == 0 {
			c.require(at+".size", "a size such as 20Gi", contentText)
		} else {
			c.size(at+".size", f.Size, minFileSystemSize)
		}
		c.headroom(at+".headroom", f.Size, f.Headroom)
		c.label(at+".label", f, labels)
		for at, option := range c.unique(at+".mountOptions", f.MountOptions) {
			c.mountOption(at, option)
		}
		if f.Size != Content {
			taken += Size(f.Size)
		}
	}
	if len(c.errs) == before && taken > 0 && disk.Size != Content && Size(disk.Size) < taken+minDiskSize {
		c.add(FieldError{
			Field: "spec.disk.size", Found: quote(disk.Size.String()), asWritten: true,
			Problem: "leaves too little for the root file system: spec.disk.fileSystems take " + taken.String(),
			Allowed: []string{(taken + minDiskSize).String() + " or more", contentText},
		})
	}
}

// size checks the size of a disk or of a file system.
func (c *checker) size(at string, size SizeOrContent, least Size) {
	bad := FieldError{Field: at, Found: quote(size.String()), asWritten: true}
	switch s := Size(size); {
	case size == Content:
		return
	case s < least:
		bad.Problem, bad.Allowed = "is too small", []string{least.String() + " to " + maxDiskSize.String(), contentText}
	case s > maxDiskSize:
		bad.Problem, bad.Allowed = "is too large", []string{least.String() + " to " + maxDiskSize.String(), contentText}
	case s%diskUnit != 0:
		bad.Problem, bad.Allowed = "is not a whole number of MiB", []string{"a multiple of " + diskUnit.String()}
		bad.Suggestion = ((s/diskUnit + 1) * diskUnit).String()
	default:
		return
	}
	c.add(bad)
}

// headroom checks what a size that follows from the content leaves free.
func (c *checker) headroom(at string, size SizeOrContent, headroom Size) {
	switch {
	case headroom != 0 && size != Content:
		c.add(FieldError{Field: at, Problem: "goes with size: content only"})
	case headroom > maxDiskSize:
		c.add(FieldError{Field: at, Found: quote(headroom.String()), asWritten: true, Problem: "is too large", Allowed: []string{"at most " + maxDiskSize.String()}})
	}
}

// mountPoint checks where a file system is mounted.
func (c *checker) mountPoint(at, point string, seen map[string]string) {
	if !c.matches(at, point, mountPointSyntax) {
		if clean := path.Clean("/" + point); point != "" && mountPointSyntax.ok(clean) {
			c.errs[len(c.errs)-1].Suggestion = clean
		}
		return
	}
	c.repeated(seen, at, point, point)
	for _, dir := range onTheRoot {
		if point == dir.path || strings.HasPrefix(point, dir.path+"/") {
			c.add(FieldError{Field: at, Found: quote(point), Problem: "can't be a file system of its own: " + dir.path + " " + dir.why})
			return
		}
	}
	for dir := point; dir != "/"; dir = path.Dir(dir) {
		if other, ok := c.paths[dir]; ok && other.kind != aDirectory {
			c.add(FieldError{Field: at, Found: quote(point), Problem: "is no directory: " + other.field + " makes " + dir + " " + other.kind})
			return
		}
	}
}

// label checks the name of a file system, which udev takes regardless of its
// partition's and cloud-init regardless of case.
func (c *checker) label(at string, f FileSystem, seen map[string]string) {
	// Without a mount point there is no label either, which is said already.
	if f.Label == "" || !c.matches(at, f.Label, labelSyntax) {
		return
	}
	name := strings.ToLower(f.Label)
	if what, taken := takenLabels[name]; taken {
		c.add(FieldError{Field: at, Found: quote(f.Label), Problem: "is the name of " + what})
		return
	}
	c.repeated(seen, at, name, f.Label)
}

// mountOption checks an option of fstab.
func (c *checker) mountOption(at, option string) {
	name, _, _ := strings.Cut(option, "=")
	switch {
	case !c.matches(at, option, mountOptionSyntax):
	case name == "noauto":
		c.add(FieldError{Field: at, Found: quote(option), Problem: "would leave out of the node what the file system holds"})
	case slices.Contains([]string{"bind", "rbind", "move", "remount", "loop", "offset", "sizelimit"}, name):
		c.add(FieldError{Field: at, Found: quote(option), Problem: "is not for the mount of a partition"})
	}
}
