// Package grub makes GRUB's part of a disk: the BIOS boot sector and core
// image, and the texts of the configuration files on the disk, on the EFI
// system partition and on the node.
//
// What comes in is GRUB as a distribution ships it and where things lie on the
// disk; what goes out are bytes. Same input, same bytes. What grub-install and
// grub-bios-setup do with a mounted device is done here without one.
package grub

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/program"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// Offsets in boot.img, from GRUB's include/grub/i386/pc/boot.h.
const (
	kernelSectorOffset = 0x5c  // GRUB_BOOT_MACHINE_KERNEL_SECTOR
	driveCheckOffset   = 0x66  // GRUB_BOOT_MACHINE_DRIVE_CHECK
	partitionTable     = 0x1b8 // GRUB_BOOT_MACHINE_WINDOWS_NT_MAGIC: end of the code area
	bootSignature      = 0xaa55
	shortJump          = 0xeb
	noOperation        = 0x90
)

// The block list at the end of the core image's first sector (diskboot.img),
// which names where the rest lies: struct grub_pc_bios_boot_blocklist.
const (
	blockListOffset = 0x1f4
	// kernelSegment is GRUB_BOOT_MACHINE_KERNEL_SEG plus the first sector's
	// paragraphs: the rest is loaded behind it.
	kernelSegment = 0x820
)

type blockList struct {
	Start   uint64
	Length  uint16 // sectors
	Segment uint16
}

// coreModules is what the core image has built in: what it takes to find a GPT
// partition's ext4 and read a configuration that nodesmith or the node's own
// update-grub wrote. No module is ever read from the disk.
var coreModules = []string{
	"all_video", "biosdisk", "boot", "cat", "configfile", "echo", "ext2", "gzio", "halt",
	"linux", "loadenv", "ls", "minicmd", "normal", "part_gpt", "probe", "reboot",
	"search", "search_fs_file", "search_fs_uuid", "search_label", "serial", "sleep",
	"terminal", "test", "true",
}

// BootSector returns the boot code of the MBR, made from the boot.img in
// modulesDir (…/grub/i386-pc): it loads the core image that begins at sector core.
func BootSector(modulesDir string, core size.Sectors) ([]byte, error) {
	path := filepath.Join(modulesDir, "boot.img")
	boot, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("GRUB boot sector: %w", err)
	}
	if len(boot) != int(size.SectorSize) || binary.LittleEndian.Uint16(boot[len(boot)-2:]) != bootSignature ||
		boot[driveCheckOffset] != shortJump {
		return nil, fmt.Errorf("GRUB boot sector: %s is not the boot.img of an i386-pc GRUB that nodesmith knows", path)
	}
	binary.LittleEndian.PutUint64(boot[kernelSectorOffset:], uint64(core))
	// As grub-bios-setup does for hard disks: without the jump boot.img doesn't
	// believe a BIOS that says it was booted from a floppy disk.
	boot[driveCheckOffset], boot[driveCheckOffset+1] = noOperation, noOperation
	return boot[:partitionTable], nil
}

// Core is a core image to be made.
type Core struct {
	// ModulesDir is GRUB's directory for i386-pc.
	ModulesDir string
	// RootUUID is the UUID of the file system that has /boot/grub, in partition
	// RootPartition (from 1) of the boot disk.
	RootUUID      gpt.GUID
	RootPartition int
	// Start is the sector the image will be written to, Room how many there are.
	Start, Room size.Sectors
}

// Image runs grub-mkimage and returns the image, whole sectors, ready to be
// written at Start.
func (c Core) Image(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "grub-core-")
	if err != nil {
		return nil, fmt.Errorf("GRUB core image: %w", err)
	}
	defer os.RemoveAll(dir)
	early, output := filepath.Join(dir, "early.cfg"), filepath.Join(dir, "core.img")
	config, err := render("early.cfg", c.RootUUID)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(early, config, 0o600); err != nil {
		return nil, fmt.Errorf("GRUB core image: %w", err)
	}
	args := append([]string{
		"--format=i386-pc", "--directory=" + c.ModulesDir, "--config=" + early, "--output=" + output,
		// Without a disk's name the prefix is on the disk that was booted.
		"--prefix=(,gpt" + strconv.Itoa(c.RootPartition) + ")/boot/grub",
	}, coreModules...)
	if err := program.Run(ctx, nil, "grub-mkimage", args...); err != nil {
		return nil, fmt.Errorf("GRUB core image: %w", err)
	}
	image, err := os.ReadFile(output)
	if err != nil {
		return nil, fmt.Errorf("GRUB core image: %w", err)
	}
	return c.locate(image)
}

// locate pads the image to whole sectors and writes its place on the disk into
// its block list.
func (c Core) locate(image []byte) ([]byte, error) {
	sectors := size.Bytes(len(image)).Sectors()
	if sectors < 2 {
		return nil, fmt.Errorf("GRUB core image: %d bytes are no core image", len(image))
	}
	if sectors > c.Room {
		return nil, fmt.Errorf("GRUB core image: %v do not fit the bios-boot partition of %v", sectors.Bytes(), c.Room.Bytes())
	}
	image = append(image, make([]byte, int(sectors.Bytes())-len(image))...)
	list := blockList{Start: uint64(c.Start) + 1, Length: uint16(sectors - 1), Segment: kernelSegment}
	if size.Sectors(list.Length) != sectors-1 {
		return nil, fmt.Errorf("GRUB core image: %d sectors are more than one block list can name", sectors)
	}
	was := image[blockListOffset:size.SectorSize]
	if binary.LittleEndian.Uint16(was[10:]) != kernelSegment {
		return nil, fmt.Errorf("GRUB core image: its first sector has no block list of a GRUB that nodesmith knows")
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, list); err != nil {
		return nil, fmt.Errorf("GRUB core image: %w", err)
	}
	copy(was, b.Bytes())
	return image, nil
}
