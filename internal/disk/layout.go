package disk

import (
	"fmt"
	"slices"

	"nodesmith.dev/nodesmith/internal/disk/fat"
	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// types are the partition types of the roles that have one each.
var types = map[Role]gpt.GUID{BIOSBoot: gpt.BIOSBoot, ESP: gpt.EFISystem}

// dataTypes are the types that the Discoverable Partitions Specification has
// for mount points. /var is not among them: a partition of its type counts only
// if its identifier is derived from the machine's machine-id, which is drawn at
// the first boot of each machine. It has the plain type, like all others.
var dataTypes = map[string]gpt.GUID{"/home": gpt.LinuxHome, "/srv": gpt.LinuxSrv, "/var/tmp": gpt.LinuxVarTmp}

// partitionType returns the type that the partition has in the table.
func (c *Config) partitionType(p Partition) (kind gpt.GUID, known bool) {
	switch p.Role {
	case Root:
		return architectures[c.Architecture].root, true
	case Data:
		if kind, known := dataTypes[p.FileSystem.MountPoint]; known {
			return kind, true
		}
		return gpt.LinuxData, true
	case BIOSBoot, ESP:
	}
	kind, known = types[p.Role]
	return kind, known
}

// sized returns c with a size for the disk and for every partition that is
// sized to its content, which is given by partition.
func (c *Config) sized(contents []content) *Config {
	out := *c
	out.Partitions = slices.Clone(c.Partitions)
	total := Alignment
	for i := range out.Partitions {
		p, length := &out.Partitions[i], c.Partitions[i].Size
		if length == 0 && p.FileSystem != nil {
			length = contents[i].leastFileSystem(p.FileSystem.Headroom)
		}
		if i < len(out.Partitions)-1 { // the last one gets what is left
			p.Size = length
		}
		total += length
	}
	if c.Size == 0 {
		out.Size = (total + gpt.Backup.Bytes()).AlignUp(size.GiB)
	}
	return &out
}

// layout places the partitions of a sized disk one behind the other.
func (c *Config) layout() ([]gpt.Partition, error) {
	if c.Size <= 0 || c.Size%Alignment != 0 {
		return nil, fault.New(fault.BadSpec, "", "disk size %v is not a multiple of %v", c.Size, Alignment)
	}
	end := (gpt.LastUsable(c.Size.Sectors()) + 1).Bytes().AlignDown(Alignment)
	next := Alignment
	var placed []gpt.Partition
	seen := map[string]bool{}
	for i, p := range c.Partitions {
		if p.Role == Data && p.FileSystem == nil {
			return nil, fmt.Errorf("partition %d: the role %s needs a file system", i+1, Data)
		}
		kind, known := c.partitionType(p)
		if !known || seen[p.key()] {
			return nil, fmt.Errorf("partition %d: role %q is unknown or there twice", i+1, p.key())
		}
		seen[p.key()] = true
		length := p.Size
		if length == 0 && i == len(c.Partitions)-1 {
			length = end - next
		}
		if err := checkLength(p, length, end-next); err != nil {
			return nil, err
		}
		placed = append(placed, gpt.Partition{
			Type: kind, ID: c.Identifiers.Partitions[p.key()], Name: p.name(),
			Start: next.Sectors(), Length: length.Sectors(),
		})
		next += length
	}
	return placed, nil
}

// checkLength says why a partition can't have this length where room is left.
func checkLength(p Partition, length, room size.Bytes) error {
	least := Alignment
	switch p.Role {
	case ESP:
		least = fat.MinSize.AlignUp(Alignment)
	case Root, Data:
		least = MinFileSystem
	case BIOSBoot:
	}
	switch {
	case length > room || room < least:
		return fault.New(fault.BadSpec, "make spec.disk.size larger", "the disk has no room for partition %s: %v are left, %v are needed",
			p.name(), max(room, 0), max(length, least))
	case length < least || length%Alignment != 0:
		return fmt.Errorf("partition %s: size %v is not a multiple of %v, at least %v", p.name(), length, Alignment, least)
	}
	return nil
}
