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

// Bounds on what Read accepts of a header, so that a hostile table can ask for
// little memory. Tables with larger arrays do not occur in practice.
const (
	maxEntrySize = 4096
	maxEntries   = 1024
)

// Read reads the table of a disk that is length bytes long. It is strict: the
// protective MBR, both headers and both entry arrays must be there, whole, in
// agreement, and describe partitions that do not overlap. Empty entries are
// left out only at the end: partition N is Partitions[N-1], so a gap is an error.
func Read(r io.ReaderAt, length size.Bytes) (*Table, error) {
	if length%size.SectorSize != 0 {
		return nil, fmt.Errorf("GPT: a disk of %d bytes does not end on a sector", int64(length))
	}
	disk := length.Sectors()
	if LastUsable(disk) == 0 {
		return nil, fmt.Errorf("GPT: a disk of %d bytes is too small for a table", int64(length))
	}
	bootCode, err := readMBR(r)
	if err != nil {
		return nil, err
	}
	primary, entries, err := readCopy(r, headerLBA, disk)
	if err != nil {
		return nil, fmt.Errorf("GPT: primary table: %w", err)
	}
	backup, _, err := readCopy(r, disk-1, disk)
	if err != nil {
		return nil, fmt.Errorf("GPT: backup table: %w", err)
	}
	if err := agree(primary, backup, disk); err != nil {
		return nil, err
	}
	t := &Table{DiskGUID: primary.DiskGUID.mixedEndian(), BootCode: bootCode}
	if t.Partitions, err = decodeEntries(entries, int(primary.EntrySize)); err != nil {
		return nil, err
	}
	if err := t.validate(size.Sectors(primary.FirstUsableLBA), size.Sectors(primary.LastUsableLBA)); err != nil {
		return nil, err
	}
	return t, nil
}

// agree checks that the copies name each other and describe the same table.
func agree(primary, backup header, disk size.Sectors) error {
	switch {
	case size.Sectors(primary.AlternateLBA) != disk-1:
		return fmt.Errorf("GPT: the primary header says that the backup is in sector %d, the disk ends at %d",
			primary.AlternateLBA, disk-1)
	case backup.AlternateLBA != headerLBA:
		return fmt.Errorf("GPT: the backup header says that the primary is in sector %d", backup.AlternateLBA)
	case primary.DiskGUID != backup.DiskGUID, primary.EntriesCRC != backup.EntriesCRC,
		primary.EntryCount != backup.EntryCount, primary.EntrySize != backup.EntrySize,
		primary.FirstUsableLBA != backup.FirstUsableLBA, primary.LastUsableLBA != backup.LastUsableLBA:
		return errors.New("GPT: the primary and the backup table differ")
	}
	return nil
}

func readMBR(r io.ReaderAt) (bootCode []byte, err error) {
	sector := make([]byte, size.SectorSize)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return nil, fmt.Errorf("GPT: read sector 0: %w", err)
	}
	if binary.LittleEndian.Uint16(sector[size.SectorSize-2:]) != mbrSignature {
		return nil, errors.New("GPT: sector 0 is no MBR: its signature is missing")
	}
	var record mbrEntry
	if err := binary.Read(bytes.NewReader(sector[mbrEntryStart:]), binary.LittleEndian, &record); err != nil {
		return nil, fmt.Errorf("GPT: protective MBR: %w", err)
	}
	if record.OSType != protectiveOS || record.StartLBA != headerLBA {
		return nil, fmt.Errorf("GPT: the MBR is not protective: its first record has type %#02x and starts at %d",
			record.OSType, record.StartLBA)
	}
	return sector[:BootCodeSize:BootCodeSize], nil
}

// readCopy reads and checks one header and the entries it points to, as
// section 5.3.2 says a valid header must be checked.
func readCopy(r io.ReaderAt, at, disk size.Sectors) (header, []byte, error) {
	sector := make([]byte, size.SectorSize)
	var h header
	if _, err := r.ReadAt(sector, int64(at.Bytes())); err != nil {
		return h, nil, fmt.Errorf("read sector %d: %w", at, err)
	}
	if err := binary.Read(bytes.NewReader(sector), binary.LittleEndian, &h); err != nil {
		return h, nil, err
	}
	if err := h.check(sector, at, disk); err != nil {
		return h, nil, err
	}
	entries := make([]byte, h.EntryCount*h.EntrySize)
	if _, err := r.ReadAt(entries, int64(size.Sectors(h.EntriesLBA).Bytes())); err != nil {
		return h, nil, fmt.Errorf("read entries at sector %d: %w", h.EntriesLBA, err)
	}
	if crc32.ChecksumIEEE(entries) != h.EntriesCRC {
		return h, nil, errors.New("the checksum of the partition entries does not match")
	}
	return h, entries, nil
}

func (h header) check(sector []byte, at, disk size.Sectors) error {
	if h.Signature != signature {
		return fmt.Errorf("no GPT header in sector %d", at)
	}
	if h.Revision != revision || h.HeaderSize < headerSize || int(h.HeaderSize) > len(sector) {
		return fmt.Errorf("unknown revision %#x or header size %d", h.Revision, h.HeaderSize)
	}
	plain := bytes.Clone(sector[:h.HeaderSize])
	clear(plain[16:20]) // HeaderCRC itself counts as zero
	if crc32.ChecksumIEEE(plain) != h.HeaderCRC {
		return fmt.Errorf("the checksum of the header in sector %d does not match", at)
	}
	if size.Sectors(h.MyLBA) != at {
		return fmt.Errorf("the header in sector %d says it is in sector %d", at, h.MyLBA)
	}
	if h.EntrySize < entrySize || h.EntrySize > maxEntrySize || h.EntrySize&(h.EntrySize-1) != 0 {
		return fmt.Errorf("partition entries of %d bytes", h.EntrySize)
	}
	if h.EntryCount > maxEntries {
		return fmt.Errorf("%d partition entries", h.EntryCount)
	}
	length := size.Bytes(h.EntryCount * h.EntrySize).Sectors()
	first, last := size.Sectors(h.FirstUsableLBA), size.Sectors(h.LastUsableLBA)
	start := size.Sectors(h.EntriesLBA)
	if first <= headerLBA || first > last || last >= disk-1 {
		return fmt.Errorf("usable sectors %d to %d on a disk of %d", first, last, disk)
	}
	if start <= headerLBA || start >= disk || length > disk-start || (start <= last && first < start+length) {
		return fmt.Errorf("partition entries at sector %d lie outside the disk or among its partitions", start)
	}
	return nil
}

func decodeEntries(table []byte, stride int) ([]Partition, error) {
	var partitions []Partition
	gap := 0
	for n := 1; len(table) >= stride; n, table = n+1, table[stride:] {
		var e entry
		if err := binary.Read(bytes.NewReader(table), binary.LittleEndian, &e); err != nil {
			return nil, fmt.Errorf("GPT: partition %d: %w", n, err)
		}
		if e.Type == (GUID{}) {
			if gap == 0 {
				gap = n
			}
			continue
		}
		if gap != 0 {
			return nil, fmt.Errorf("GPT: partition %d is there, partition %d is empty", n, gap)
		}
		if e.LastLBA < e.FirstLBA {
			return nil, fmt.Errorf("GPT: partition %d ends at sector %d before it starts at %d", n, e.LastLBA, e.FirstLBA)
		}
		units := e.Name[:]
		for i, u := range units {
			if u == 0 {
				units = units[:i]
				break
			}
		}
		partitions = append(partitions, Partition{
			Type:       e.Type.mixedEndian(),
			ID:         e.ID.mixedEndian(),
			Start:      size.Sectors(e.FirstLBA),
			Length:     size.Sectors(e.LastLBA-e.FirstLBA) + 1,
			Attributes: e.Attributes,
			Name:       string(utf16.Decode(units)),
		})
	}
	return partitions, nil
}
