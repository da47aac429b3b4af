// Package gpt writes and reads GUID partition tables.
//
// What comes in is a Table (write) or a disk (read); what goes out is the
// protective MBR with the primary and the backup table, or the Table with
// everything the standard asks for checked. Same Table, same bytes. Sections
// are those of the UEFI Specification 2.10.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Table is a partition table for a disk of a given size.
type Table struct {
	DiskGUID GUID
	// BootCode is the start of sector 0, run by a BIOS: at most BootCodeSize bytes.
	BootCode []byte
	// Partitions are numbered from 1 in this order; at most MaxPartitions.
	Partitions []Partition
}

// Partition is one entry of a table.
type Partition struct {
	Type, ID GUID
	// Start is the first sector, Length the number of sectors.
	Start, Length size.Sectors
	// Attributes are bits of section 5.3.3, table 5.8.
	Attributes uint64
	// Name is at most 36 UTF-16 code units.
	Name string
}

// End returns the sector after the partition's last.
func (p Partition) End() size.Sectors { return p.Start + p.Length }

const (
	// BootCodeSize is the room for boot code in the protective MBR that leaves
	// the disk signature untouched (section 5.2.1, table 5.1).
	BootCodeSize = 440
	// MaxPartitions is the number of entries that Write reserves room for: 128
	// of 128 bytes are the 16 KiB that section 5.3.1 asks for at least.
	MaxPartitions = 128

	entrySize     = 128
	nameUnits     = 36
	headerSize    = 92
	headerLBA     = 1
	tableSectors  = MaxPartitions * entrySize / int(size.SectorSize)
	revision      = 0x00010000
	protectiveOS  = 0xEE // OSType "GPT protective", section 5.2.3
	mbrSignature  = 0xAA55
	mbrEntryStart = 446

	// FirstUsable is the first sector that a partition may start at.
	FirstUsable size.Sectors = headerLBA + 1 + size.Sectors(tableSectors)
	// Backup is the number of sectors that the backup table takes at the end.
	Backup size.Sectors = 1 + size.Sectors(tableSectors)
)

var signature = [8]byte{'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T'}

// header is the GPT header of section 5.3.2, table 5.5.
type header struct {
	Signature      [8]byte
	Revision       uint32
	HeaderSize     uint32
	HeaderCRC      uint32
	Reserved       uint32
	MyLBA          uint64
	AlternateLBA   uint64
	FirstUsableLBA uint64
	LastUsableLBA  uint64
	DiskGUID       GUID
	EntriesLBA     uint64
	EntryCount     uint32
	EntrySize      uint32
	EntriesCRC     uint32
}

// entry is the GPT partition entry of section 5.3.3, table 5.6.
type entry struct {
	Type, ID   GUID
	FirstLBA   uint64
	LastLBA    uint64 // inclusive
	Attributes uint64
	Name       [nameUnits]uint16
}

// mbrEntry is a partition record of the MBR, section 5.2.1, table 5.2.
type mbrEntry struct {
	BootIndicator byte
	StartCHS      [3]byte
	OSType        byte
	EndCHS        [3]byte
	StartLBA      uint32
	Sectors       uint32
}

// LastUsable returns the last sector that a partition on a disk of the given
// size may cover; 0 when the disk has no room for any.
func LastUsable(disk size.Sectors) size.Sectors {
	if disk <= FirstUsable+Backup {
		return 0
	}
	return disk - Backup - 1
}

// Write writes the protective MBR, the primary and the backup table of a disk
// that has the given number of sectors. Nothing between the tables is touched.
// It returns an error, and writes nothing, for a table that Read would refuse.
func (t *Table) Write(w io.WriterAt, disk size.Sectors) error {
	if err := t.validate(FirstUsable, LastUsable(disk)); err != nil {
		return err
	}
	if len(t.BootCode) > BootCodeSize {
		return fmt.Errorf("GPT: boot code has %d bytes, the protective MBR takes %d", len(t.BootCode), BootCodeSize)
	}
	entries, err := t.encodeEntries()
	if err != nil {
		return err
	}
	primary, backup := t.headers(disk, crc32.ChecksumIEEE(entries))
	for _, part := range []struct {
		at   size.Sectors
		data []byte
	}{
		{size.Sectors(backup.EntriesLBA), entries},
		{size.Sectors(backup.MyLBA), backup.encode()},
		{size.Sectors(primary.EntriesLBA), entries},
		{headerLBA, primary.encode()},
		{0, protectiveMBR(t.BootCode, disk)},
	} {
		if _, err := w.WriteAt(part.data, int64(part.at.Bytes())); err != nil {
			return fmt.Errorf("GPT: write sector %d: %w", part.at, err)
		}
	}
	return nil
}

func (t *Table) headers(disk size.Sectors, entriesCRC uint32) (primary, backup header) {
	primary = header{
		Signature:      signature,
		Revision:       revision,
		HeaderSize:     headerSize,
		MyLBA:          headerLBA,
		AlternateLBA:   uint64(disk - 1),
		FirstUsableLBA: uint64(FirstUsable),
		LastUsableLBA:  uint64(LastUsable(disk)),
		DiskGUID:       t.DiskGUID.mixedEndian(),
		EntriesLBA:     headerLBA + 1,
		EntryCount:     MaxPartitions,
		EntrySize:      entrySize,
		EntriesCRC:     entriesCRC,
	}
	backup = primary
	backup.MyLBA, backup.AlternateLBA = primary.AlternateLBA, primary.MyLBA
	backup.EntriesLBA = uint64(disk - Backup)
	return primary, backup
}

// encode returns the sector that holds the header, its checksum filled in.
func (h header) encode() []byte {
	h.HeaderCRC = 0
	h.HeaderCRC = crc32.ChecksumIEEE(pack(h))
	return append(pack(h), make([]byte, size.SectorSize-headerSize)...)
}

func (t *Table) encodeEntries() ([]byte, error) {
	table := make([]byte, 0, MaxPartitions*entrySize)
	for i, p := range t.Partitions {
		e := entry{
			Type:       p.Type.mixedEndian(),
			ID:         p.ID.mixedEndian(),
			FirstLBA:   uint64(p.Start),
			LastLBA:    uint64(p.End() - 1),
			Attributes: p.Attributes,
		}
		name := utf16.Encode([]rune(p.Name))
		if len(name) > nameUnits {
			return nil, fmt.Errorf("GPT: partition %d: name %q is longer than %d UTF-16 units", i+1, p.Name, nameUnits)
		}
		copy(e.Name[:], name)
		table = append(table, pack(e)...)
	}
	return append(table, make([]byte, MaxPartitions*entrySize-len(table))...), nil
}

// protectiveMBR returns sector 0: boot code, and one record that covers the
// disk for software that knows no GPT (section 5.2.3).
func protectiveMBR(bootCode []byte, disk size.Sectors) []byte {
	sector := make([]byte, size.SectorSize)
	copy(sector[:BootCodeSize], bootCode)
	copy(sector[mbrEntryStart:], pack(mbrEntry{
		StartCHS: [3]byte{0x00, 0x02, 0x00}, // the CHS form of sector 1
		OSType:   protectiveOS,
		EndCHS:   [3]byte{0xFF, 0xFF, 0xFF},
		StartLBA: headerLBA,
		Sectors:  uint32(min(disk-1, 0xFFFFFFFF)),
	}))
	binary.LittleEndian.PutUint16(sector[size.SectorSize-2:], mbrSignature)
	return sector
}

// pack encodes a fixed-size structure. It can't fail for the types above.
func pack(v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, v)
	return b.Bytes()
}

// validate checks what the standard and plain sense ask of a set of partitions:
// set and unique identifiers, inside [first, last], none over another.
func (t *Table) validate(first, last size.Sectors) error {
	if t.DiskGUID == (GUID{}) {
		return errors.New("GPT: the disk GUID is zero")
	}
	if len(t.Partitions) > MaxPartitions {
		return fmt.Errorf("GPT: %d partitions, at most %d fit", len(t.Partitions), MaxPartitions)
	}
	ids := map[GUID]int{}
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) || p.ID == (GUID{}) {
			return fmt.Errorf("GPT: partition %d: type or unique GUID is zero", i+1)
		}
		if other, taken := ids[p.ID]; taken {
			return fmt.Errorf("GPT: partitions %d and %d have the same GUID %s", other, i+1, p.ID)
		}
		ids[p.ID] = i + 1
		if p.Length == 0 || p.Start < first || p.Start > last || p.Length > last-p.Start+1 {
			return fmt.Errorf("GPT: partition %d: %d sectors at %d lie outside the usable sectors %d to %d",
				i+1, p.Length, p.Start, first, last)
		}
		for j, q := range t.Partitions[:i] {
			if p.Start < q.End() && q.Start < p.End() {
				return fmt.Errorf("GPT: partitions %d and %d overlap", j+1, i+1)
			}
		}
	}
	return nil
}
