package imagefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Kinds of partition tables.
const (
	GPT = "gpt"
	MBR = "mbr"
)

// Type is what a partition is meant for, whatever the kind of table.
type Type string

// The types that matter to a node image; all others are Other.
const (
	BIOSBoot Type = "bios-boot"
	ESP      Type = "esp"
	Swap     Type = "swap"
	LVM      Type = "lvm"
	Other    Type = "other"
)

// gptTypes are from the UAPI Group's Discoverable Partitions Specification,
// but for the first, which is GRUB's.
var gptTypes = map[string]Type{
	"21686148-6449-6e6f-744e-656564454649": BIOSBoot,
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": ESP,
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": Swap,
	"e6d6d379-f507-44c2-a23c-238f2a3df928": LVM,
}

var mbrTypes = map[byte]Type{0xEF: ESP, 0x82: Swap, 0x8E: LVM}

// Partition is one partition of a disk.
type Partition struct {
	// Number is the one in device names, from 1.
	Number int
	Type   Type
	// ID is what fstab's PARTUUID= means, Name what PARTLABEL= does.
	ID, Name string
	// Start and Size are in bytes.
	Start, Size int64
	// Active is the boot flag of an MBR.
	Active bool
}

// Table is a disk's partition table.
type Table struct {
	Kind       string // GPT or MBR
	Partitions []Partition
	// BootCode is what a BIOS runs: the first 440 bytes of the disk.
	BootCode []byte
	// Damage says what is wrong with a table that could be read all the same.
	Damage error
}

const (
	sector      = 512
	bootCode    = 440
	mbrEntries  = 446
	gptEntry    = 128
	maxEntries  = 1024
	maxLogicals = 64
)

var le = binary.LittleEndian

// readTable reads a disk's table: that of GPT if there is one, else that of
// the MBR. Unlike internal/disk/gpt, which judges what nodesmith writes, it
// takes gaps in the numbering and reads on from the backup when the primary
// table is damaged.
func readTable(r io.ReaderAt, size int64) (*Table, error) {
	mbr := make([]byte, sector)
	if _, err := r.ReadAt(mbr, 0); err != nil {
		return nil, fmt.Errorf("read the first sector: %w", err)
	}
	if le.Uint16(mbr[510:]) != 0xAA55 {
		return nil, errors.New("there is no partition table: the first sector has no signature")
	}
	t := &Table{BootCode: mbr[:bootCode]}
	protective := false
	for n := range 4 {
		protective = protective || mbr[mbrEntries+16*n+4] == 0xEE
	}
	if !protective {
		t.Kind = MBR
		return t, t.readMBR(r, mbr, size)
	}
	t.Kind = GPT
	disk := size / sector
	primary, primaryErr := readGPT(r, 1, disk)
	backup, backupErr := readGPT(r, disk-1, disk)
	switch {
	case primaryErr != nil && backupErr != nil:
		return nil, fmt.Errorf("GPT: primary table: %w; backup table: %w", primaryErr, backupErr)
	case primaryErr != nil:
		t.Damage = fmt.Errorf("GPT: primary table: %w", primaryErr)
		t.Partitions = backup
		return t, nil
	case backupErr != nil:
		t.Damage = fmt.Errorf("GPT: backup table: %w", backupErr)
	case !slices.Equal(primary, backup):
		t.Damage = errors.New("GPT: the primary and the backup table differ")
	}
	t.Partitions = primary
	if t.Damage == nil {
		t.Damage = t.overlap()
	}
	return t, nil
}

// readGPT reads the table whose header is in the given sector (UEFI 2.10,
// section 5.3).
func readGPT(r io.ReaderAt, at, disk int64) ([]Partition, error) {
	if at < 1 {
		return nil, errors.New("the disk is too small")
	}
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, at*sector); err != nil {
		return nil, err
	}
	if string(h[:8]) != "EFI PART" {
		return nil, fmt.Errorf("sector %d holds no header", at)
	}
	headerSize := le.Uint32(h[12:])
	if headerSize < 92 || headerSize > sector {
		return nil, fmt.Errorf("a header of %d bytes", headerSize)
	}
	sum := le.Uint32(h[16:])
	plain := bytes.Clone(h[:headerSize])
	clear(plain[16:20])
	if crc32.ChecksumIEEE(plain) != sum {
		return nil, errors.New("the header's checksum does not match")
	}
	if int64(le.Uint64(h[24:])) != at {
		return nil, errors.New("the header says that it is elsewhere")
	}
	start, count, stride := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if stride < gptEntry || stride > 4096 || count > maxEntries || start >= uint64(disk) {
		return nil, fmt.Errorf("%d entries of %d bytes at sector %d", count, stride, start)
	}
	table := make([]byte, count*stride)
	if _, err := r.ReadAt(table, int64(start)*sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, errors.New("the checksum of the entries does not match")
	}
	var out []Partition
	for n := 1; len(table) >= int(stride); n, table = n+1, table[stride:] {
		if bytes.Equal(table[:16], make([]byte, 16)) {
			continue
		}
		first, last := le.Uint64(table[32:]), le.Uint64(table[40:])
		if first > last || last >= uint64(disk) {
			return nil, fmt.Errorf("partition %d lies outside the disk", n)
		}
		kind, known := gptTypes[guid(table[:16])]
		if !known {
			kind = Other
		}
		out = append(out, Partition{
			Number: n, Type: kind, ID: guid(table[16:32]), Name: utf16Name(table[56:128]),
			Start: int64(first) * sector, Size: int64(last-first+1) * sector,
		})
	}
	return out, nil
}

// guid writes a GUID of a table, whose first three fields are little endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func utf16Name(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && le.Uint16(b) != 0; b = b[2:] {
		units = append(units, le.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// readMBR reads the four records and the logical partitions of an extended one.
func (t *Table) readMBR(r io.ReaderAt, mbr []byte, size int64) error {
	signature := le.Uint32(mbr[bootCode:])
	for n := range 4 {
		p, kind, err := mbrPartition(mbr[mbrEntries+16*n:], 0, size)
		if err != nil {
			return fmt.Errorf("MBR: partition %d: %w", n+1, err)
		}
		if p == nil {
			continue
		}
		if kind == 0x05 || kind == 0x0F {
			if err := t.readLogical(r, p.Start, size, signature); err != nil {
				return err
			}
			continue
		}
		p.Number, p.ID = n+1, fmt.Sprintf("%08x-%02x", signature, n+1)
		t.Partitions = append(t.Partitions, *p)
	}
	if len(t.Partitions) == 0 {
		return errors.New("the partition table is empty")
	}
	t.Damage = t.overlap()
	return nil
}

// readLogical follows the chain of extended boot records.
func (t *Table) readLogical(r io.ReaderAt, base, size int64, signature uint32) error {
	for n, at := 5, base; n < 5+maxLogicals; n++ {
		record := make([]byte, sector)
		if _, err := r.ReadAt(record, at); err != nil || le.Uint16(record[510:]) != 0xAA55 {
			return fmt.Errorf("MBR: no extended boot record at %d", at)
		}
		p, _, err := mbrPartition(record[mbrEntries:], at, size)
		if err != nil {
			return fmt.Errorf("MBR: partition %d: %w", n, err)
		}
		if p != nil {
			p.Number, p.ID = n, fmt.Sprintf("%08x-%02x", signature, n)
			t.Partitions = append(t.Partitions, *p)
		}
		next, _, err := mbrPartition(record[mbrEntries+16:], base, size)
		if err != nil || next == nil {
			return err
		}
		at = next.Start
	}
	return errors.New("MBR: the logical partitions never end")
}

// mbrPartition decodes one record; nil for an empty one.
func mbrPartition(b []byte, base, size int64) (*Partition, byte, error) {
	if b[4] == 0 {
		return nil, 0, nil
	}
	p := &Partition{Type: Other, Start: base + int64(le.Uint32(b[8:]))*sector, Size: int64(le.Uint32(b[12:])) * sector, Active: b[0] == 0x80}
	if kind, known := mbrTypes[b[4]]; known {
		p.Type = kind
	}
	if p.Start < sector || p.Size > size-p.Start {
		return nil, 0, errors.New("lies outside the disk")
	}
	return p, b[4], nil
}

// overlap returns an error when two partitions share a sector.
func (t *Table) overlap() error {
	sorted := slices.SortedFunc(slices.Values(t.Partitions), func(a, b Partition) int {
		return int(min(max(a.Start-b.Start, -1), 1))
	})
	for i := 1; i < len(sorted); i++ {
		if before := sorted[i-1]; before.Start+before.Size > sorted[i].Start {
			return fmt.Errorf("%s: partitions %d and %d overlap", strings.ToUpper(t.Kind), before.Number, sorted[i].Number)
		}
	}
	return nil
}
