// Package fat writes a FAT32 volume with a handful of files, as an EFI system
// partition needs it.
//
// What comes in is a Volume: its files with their content. What goes out is the
// volume, written in one go into a region that reads as zeros; what stays zero
// is not written, so the region stays sparse. Same Volume, same bytes. Contents
// are held in memory: boot loaders are a few megabytes.
//
// Sections are those of Microsoft's "FAT: General Overview of On-Disk Format",
// version 1.03, which the UEFI Specification (2.10, section 13.3) builds on. It
// asks for FAT32 on fixed disks, and some firmware reads nothing else there.
package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Volume is a FAT32 file system to be written.
type Volume struct {
	// Size is at least MinSize; what is beyond the last whole sector stays unused.
	Size size.Bytes
	// Start is the volume's first sector on its disk.
	Start size.Sectors
	// Serial is the volume's serial number: 0x1234ABCD is UUID 1234-ABCD to Linux.
	Serial uint32
	// Label is at most 11 characters that a short name may have, in upper case.
	Label string
	// Time is the time that every file and directory carries. FAT knows 1980 to
	// 2107 in steps of two seconds; earlier and later times become the limits.
	Time time.Time
	// Files lists all files; directories are made from their paths.
	Files []File
}

// File is a file of a volume.
type File struct {
	// Path is relative and separated by slashes. Each name has the form 8.3, and
	// the letters of each of its halves are all of one case.
	Path string
	Data []byte
}

const (
	sector = int(size.SectorSize)

	reservedSectors = 32 // section "FAT32 volumes", usual value
	fatCopies       = 2
	fsInfoSector    = 1
	backupSector    = 6 // section "FAT32 FSInfo Sector Structure and Backup Boot Sector"
	media           = 0xF8
	rootCluster     = 2
	minClusters     = 65525 // below this count a volume is FAT16 by definition
	endOfChain      = 0x0FFFFFFF

	// MinSize is the smallest volume that is FAT32: one sector a cluster, and two
	// FATs of the 521 sectors that divide gives a volume of this size.
	MinSize = size.Bytes(reservedSectors+fatCopies*521+minClusters) * size.SectorSize
	// MaxSize is a bound of this writer, far above what boot loaders need.
	MaxSize = 8 * size.GiB
	// smallVolume is where the specification's table of cluster sizes goes from
	// one sector to eight.
	smallVolume = 260 * size.MiB
)

// bootSector is the BIOS parameter block of a FAT32 volume, sections "Boot
// Sector and BPB" and "FAT32 Structure Starting at Offset 36".
type bootSector struct {
	Jump              [3]byte
	OEMName           [8]byte
	BytesPerSector    uint16
	SectorsPerCluster uint8
	ReservedSectors   uint16
	FATs              uint8
	RootEntries       uint16
	TotalSectors16    uint16
	Media             uint8
	FATSize16         uint16
	SectorsPerTrack   uint16
	Heads             uint16
	HiddenSectors     uint32
	TotalSectors32    uint32
	FATSize32         uint32
	ExtFlags          uint16
	Version           uint16
	RootCluster       uint32
	FSInfo            uint16
	BackupBootSector  uint16
	Reserved          [12]byte
	DriveNumber       uint8
	Reserved1         uint8
	BootSignature     uint8
	Serial            uint32
	Label             [11]byte
	Type              [8]byte
}

// fsInfo is the FSInfo sector.
type fsInfo struct {
	LeadSignature   uint32
	Reserved1       [480]byte
	StructSignature uint32
	FreeCount       uint32
	NextFree        uint32
	Reserved2       [12]byte
	TrailSignature  uint32
}

// geometry is how a volume of some size is divided, in sectors.
type geometry struct {
	total, perCluster, perFAT, data, clusters int
}

func divide(length size.Bytes) (geometry, error) {
	if length < MinSize || length > MaxSize {
		return geometry{}, fmt.Errorf("FAT32: a volume of %v; between %v and %v are possible", length, MinSize, MaxSize)
	}
	g := geometry{total: int(length / size.SectorSize), perCluster: 1}
	if length > smallVolume {
		g.perCluster = 8
	}
	// Every cluster has four bytes in the FAT; the FAT's own room is not taken
	// off the count first, which leaves a few of its entries without a cluster.
	mostClusters := (g.total - reservedSectors) / g.perCluster
	g.perFAT = ((mostClusters+rootCluster)*4 + sector - 1) / sector
	g.data = reservedSectors + fatCopies*g.perFAT
	g.clusters = (g.total - g.data) / g.perCluster
	if g.clusters < minClusters {
		return g, fmt.Errorf("FAT32: a volume of %v has %d clusters, %d are the least", length, g.clusters, minClusters)
	}
	return g, nil
}

// Write writes the volume at offset at of w.
func (v *Volume) Write(w io.WriterAt, at size.Bytes) error {
	g, err := divide(v.Size)
	if err != nil {
		return err
	}
	label, err := encodeLabel(v.Label)
	if err != nil {
		return err
	}
	a := &allocation{geometry: g, fat: []uint32{0x0FFFFF00 | media, endOfChain}, time: v.Time}
	if err := a.place(v.Files, label); err != nil {
		return err
	}
	out := func(data []byte, sectorNumber int) error {
		if _, err := w.WriteAt(data, int64(at)+int64(sectorNumber)*int64(sector)); err != nil {
			return fmt.Errorf("FAT32: write: %w", err)
		}
		return nil
	}
	for _, c := range a.chains {
		if err := out(c.data, g.data+(c.first-rootCluster)*g.perCluster); err != nil {
			return err
		}
	}
	for i := range fatCopies {
		if err := out(pack(a.fat), reservedSectors+i*g.perFAT); err != nil {
			return err
		}
	}
	boot, info := v.sectors(g, label, len(a.fat))
	for _, base := range []int{0, backupSector} {
		if err := out(boot, base); err != nil {
			return err
		}
		if err := out(info, base+fsInfoSector); err != nil {
			return err
		}
	}
	return nil
}

// sectors returns the boot sector and the FSInfo sector; used is the number of
// FAT entries in use.
func (v *Volume) sectors(g geometry, label [11]byte, used int) (boot, info []byte) {
	boot = pack(bootSector{
		Jump:              [3]byte{0xEB, 0x58, 0x90},
		OEMName:           [8]byte([]byte("MSWIN4.1")), // what the specification recommends
		BytesPerSector:    uint16(sector),
		SectorsPerCluster: uint8(g.perCluster),
		ReservedSectors:   reservedSectors,
		FATs:              fatCopies,
		Media:             media,
		SectorsPerTrack:   63,
		Heads:             255,
		HiddenSectors:     uint32(v.Start),
		TotalSectors32:    uint32(g.total),
		FATSize32:         uint32(g.perFAT),
		RootCluster:       rootCluster,
		FSInfo:            fsInfoSector,
		BackupBootSector:  backupSector,
		DriveNumber:       0x80,
		BootSignature:     0x29,
		Serial:            v.Serial,
		Label:             label,
		Type:              [8]byte([]byte("FAT32   ")),
	})
	boot = append(boot, make([]byte, sector-len(boot))...)
	binary.LittleEndian.PutUint16(boot[sector-2:], 0xAA55)
	info = pack(fsInfo{
		LeadSignature:   0x41615252,
		StructSignature: 0x61417272,
		FreeCount:       uint32(g.clusters + rootCluster - used),
		NextFree:        uint32(used),
		TrailSignature:  0xAA550000,
	})
	return boot, info
}

// pack encodes fixed-size values. It can't fail for the types of this package.
func pack(v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, v)
	return b.Bytes()
}
