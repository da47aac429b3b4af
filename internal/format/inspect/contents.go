package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/format"
)

// partitionTypes names the GPT types that node images have (UAPI.2, Discoverable
// Partitions Specification; Microsoft's for data).
var partitionTypes = map[string]string{
	gpt.BIOSBoot.String():                  "bios-boot",
	gpt.EFISystem.String():                 "esp",
	gpt.LinuxRootX8664.String():            "linux-root-x86-64",
	"b921b045-1df0-41c3-af44-4c6f280d3fae": "linux-root-arm64",
	gpt.LinuxData.String():                 "linux-data",
	gpt.LinuxHome.String():                 "linux-home",
	gpt.LinuxSrv.String():                  "linux-srv",
	gpt.LinuxVarTmp.String():               "linux-var-tmp",
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "linux-swap",
	"bc13c2ff-59e6-4262-a352-b275fd6f7172": "linux-extended-boot",
	"e6d6d379-f507-44c2-a23c-238f2a3df928": "linux-lvm",
	"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "windows-data",
	"e3c9e316-0b5c-4db8-817d-f92df00215ae": "windows-reserved",
}

// contents fills in the partitions and file systems; what can't be read becomes
// a note.
func (r *Report) contents(src format.Source) {
	table, err := readGPT(src)
	if err == nil {
		r.PartitionTable = "gpt"
		if end := gptEnd(src); end < src.Size() {
			r.Notes = append(r.Notes, fmt.Sprintf("the GPT ends at byte %d of %d: a format that rounds sizes up made the disk larger; it grows at first boot", end, src.Size()))
		}
		for i, p := range table.Partitions {
			name, ok := partitionTypes[p.Type.String()]
			if !ok {
				name = p.Type.String()
			}
			r.add(src, Partition{Number: i + 1, Start: int64(p.Start.Bytes()), Length: int64(p.Length.Bytes()), Type: name, Name: p.Name, UUID: p.ID.String()})
		}
		return
	}
	protective := r.readMBR(src)
	if protective {
		r.PartitionTable = "gpt"
		r.Notes = append(r.Notes, "the partition table is damaged: "+err.Error())
	}
	if r.PartitionTable == "" {
		r.FileSystem, _ = fileSystem(src, 0, src.Size())
	}
}

// add looks for the partition's file system and lists the partition.
func (r *Report) add(src format.Source, p Partition) {
	p.FileSystem, p.Label = fileSystem(src, p.Start, p.Length)
	r.Partitions = append(r.Partitions, p)
}

// readGPT reads the table; its backup is looked for at the disk's end, then
// where the primary says that it is.
func readGPT(src format.Source) (*gpt.Table, error) {
	table, err := gpt.Read(src, size.Bytes(src.Size()))
	if err == nil {
		return table, nil
	}
	if end := gptEnd(src); end < src.Size() {
		if table, err := gpt.Read(src, size.Bytes(end)); err == nil {
			return table, nil
		}
	}
	return nil, err
}

// gptEnd is where the disk ended when its GPT was written: behind the backup
// header (UEFI 2.10, table 5.5, AlternateLBA); the disk's size if it has none.
func gptEnd(src format.Source) int64 {
	var sector [format.SectorSize]byte
	if _, err := src.ReadAt(sector[:], format.SectorSize); err != nil || string(sector[:8]) != "EFI PART" {
		return src.Size()
	}
	alternate := binary.LittleEndian.Uint64(sector[32:])
	if alternate >= uint64(src.Size()/format.SectorSize) {
		return src.Size()
	}
	return (int64(alternate) + 1) * format.SectorSize
}

// mbrTypes names the partition types of an MBR that node images have.
var mbrTypes = map[byte]string{0x07: "ntfs", 0x0b: "fat32", 0x0c: "fat32", 0x0e: "fat16", 0x82: "linux-swap", 0x83: "linux", 0x8e: "linux-lvm", 0xef: "esp"}

// readMBR lists the primary partitions and reports whether they only protect a
// GPT.
func (r *Report) readMBR(src format.Source) (protective bool) {
	var sector [format.SectorSize]byte
	if _, err := src.ReadAt(sector[:], 0); err != nil || sector[510] != 0x55 || sector[511] != 0xaa {
		return false
	}
	var found []Partition
	for i := range 4 {
		record := sector[446+16*i:]
		p := Partition{
			Number: i + 1, Type: fmt.Sprintf("%#02x", record[4]),
			Start:  int64(binary.LittleEndian.Uint32(record[8:])) * format.SectorSize,
			Length: int64(binary.LittleEndian.Uint32(record[12:])) * format.SectorSize,
		}
		if record[4] == 0xee {
			return true
		}
		if name, ok := mbrTypes[record[4]]; ok {
			p.Type = name
		}
		if record[0]&0x7f != 0 || p.Start+p.Length > src.Size() {
			return false // a boot sector of a file system, not a table
		}
		if record[4] != 0 && p.Length > 0 {
			found = append(found, p)
		}
	}
	if len(found) > 0 {
		r.PartitionTable = "mbr"
	}
	for _, p := range found {
		r.add(src, p)
	}
	return false
}

// signatures are how file systems are told apart: bytes at a place, and where
// the label stands.
var signatures = []struct {
	name      string
	at        int64
	magic     string
	label     int64
	labelSize int
}{
	{"ext4", 1080, "\x53\xef", 1144, 16}, // or ext2, ext3: see extVersion
	{"xfs", 0, "XFSB", 108, 12},
	{"btrfs", 65600, "_BHRfS_M", 65835, 255},
	{"vfat", 82, "FAT32   ", 71, 11},
	{"vfat", 54, "FAT16   ", 43, 11},
	{"vfat", 54, "FAT12   ", 43, 11},
	{"ntfs", 3, "NTFS    ", 0, 0},
	{"swap", 4086, "SWAPSPACE2", 1052, 16},
	{"squashfs", 0, "hsqs", 0, 0},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0", 1088, 16},
	{"iso9660", 32769, "CD001", 32808, 32},
	{"lvm2", 512, "LABELONE", 0, 0},
	{"luks", 0, "LUKS\xba\xbe", 0, 0},
}

// fileSystem names the file system that begins at byte start, and its label.
func fileSystem(src format.Source, start, length int64) (name, label string) {
	read := func(at int64, n int) []byte {
		buf := make([]byte, n)
		if at+int64(n) > length {
			return buf
		}
		if _, err := src.ReadAt(buf, start+at); err != nil && !errors.Is(err, io.EOF) {
			return make([]byte, n)
		}
		return buf
	}
	for _, s := range signatures {
		if string(read(s.at, len(s.magic))) != s.magic {
			continue
		}
		text, _, _ := bytes.Cut(read(s.label, s.labelSize), []byte{0})
		if name = s.name; name == "ext4" {
			name = extVersion(read(1024+0x5c, 12))
		}
		return name, strings.ToValidUTF8(strings.TrimSpace(string(text)), "?")
	}
	return "", ""
}

// extVersion tells ext2, ext3 and ext4 apart by s_feature_compat and
// s_feature_incompat, as blkid does: a journal, extents.
func extVersion(features []byte) string {
	const hasJournal, extents = 0x4, 0x40
	switch {
	case binary.LittleEndian.Uint32(features[4:])&extents != 0:
		return "ext4"
	case binary.LittleEndian.Uint32(features)&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}
