package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
)

// Identifiers are all names and numbers on a disk that other programs draw at
// random.
type Identifiers struct {
	Disk gpt.GUID `json:"disk"`
	// Partitions are by role; those of the role data by mount point.
	Partitions map[string]gpt.GUID `json:"partitions"`
	// FileSystems are by mount point.
	FileSystems map[string]FileSystemIdentifiers `json:"fileSystems"`
	// ESPVolume is the serial number of the EFI system partition's FAT.
	ESPVolume VolumeSerial `json:"espVolume"`
}

// FileSystemIdentifiers are those of an ext4 file system.
type FileSystemIdentifiers struct {
	// UUID is what root= and /etc/fstab name.
	UUID gpt.GUID `json:"uuid"`
	// HashSeed keys the hashes in the file system's directories.
	HashSeed gpt.GUID `json:"hashSeed"`
}

// RootUUID is the UUID of the root file system.
func (i Identifiers) RootUUID() gpt.GUID { return i.FileSystems[rootDir].UUID }

// VolumeSerial is the serial number of a FAT volume.
type VolumeSerial uint32

// String returns the form that Linux takes for the volume's UUID: 1234-ABCD.
func (s VolumeSerial) String() string {
	return fmt.Sprintf("%04X-%04X", uint32(s)>>16, uint32(s)&0xFFFF)
}

// IdentifiersFrom derives all identifiers of a disk with further file systems
// at mountPoints from a seed: same seed, same identifiers; other seed, others.
// Disks that a machine may see at the same time need different seeds.
func IdentifiersFrom(seed string, mountPoints ...string) Identifiers {
	ids := Identifiers{
		Disk:       derive(seed, "disk"),
		Partitions: map[string]gpt.GUID{},
		FileSystems: map[string]FileSystemIdentifiers{
			rootDir: {UUID: derive(seed, "root file system"), HashSeed: derive(seed, "root hash seed")},
		},
	}
	for _, role := range []Role{BIOSBoot, ESP, Root} {
		ids.Partitions[string(role)] = derive(seed, "partition "+string(role))
	}
	for _, point := range mountPoints {
		ids.Partitions[point] = derive(seed, "partition "+point)
		ids.FileSystems[point] = FileSystemIdentifiers{UUID: derive(seed, "file system "+point), HashSeed: derive(seed, "hash seed "+point)}
	}
	serial := derive(seed, "esp volume")
	ids.ESPVolume = VolumeSerial(binary.BigEndian.Uint32(serial[:4]) | 1) // never zero
	return ids
}

// derive makes a UUID of version 8 (RFC 9562, section 5.8 and appendix B.2) from
// SHA-256 over the seed and what the UUID is for.
func derive(seed, purpose string) gpt.GUID {
	sum := sha256.Sum256(fmt.Appendf(nil, "nodesmith disk\x00%s\x00%s", purpose, seed))
	id := gpt.GUID(sum[:16])
	id[6] = id[6]&0x0F | 0x80
	id[8] = id[8]&0x3F | 0x80
	return id
}
