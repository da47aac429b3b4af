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
	Disk       gpt.GUID          `json:"disk"`
	Partitions map[Role]gpt.GUID `json:"partitions"`
	// RootFileSystem is the UUID that root= and /etc/fstab name.
	RootFileSystem gpt.GUID `json:"rootFileSystem"`
	// RootHashSeed keys the hashes in the root file system's directories.
	RootHashSeed gpt.GUID `json:"rootHashSeed"`
	// ESPVolume is the serial number of the EFI system partition's FAT.
	ESPVolume VolumeSerial `json:"espVolume"`
}

// VolumeSerial is the serial number of a FAT volume.
type VolumeSerial uint32

// String returns the form that Linux takes for the volume's UUID: 1234-ABCD.
func (s VolumeSerial) String() string {
	return fmt.Sprintf("%04X-%04X", uint32(s)>>16, uint32(s)&0xFFFF)
}

// IdentifiersFrom derives all identifiers from a seed: same seed, same
// identifiers; other seed, others. Disks that a machine may see at the same time
// need different seeds.
func IdentifiersFrom(seed string) Identifiers {
	ids := Identifiers{
		Disk:           derive(seed, "disk"),
		Partitions:     map[Role]gpt.GUID{},
		RootFileSystem: derive(seed, "root file system"),
		RootHashSeed:   derive(seed, "root hash seed"),
	}
	for role := range roles {
		ids.Partitions[role] = derive(seed, "partition "+string(role))
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
