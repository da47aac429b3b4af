// Package disk assembles a disk that boots from file system trees.
//
// What comes in are trees (directories, only read), one for each file system,
// and a Config; what goes out is a map of the disk (package diskmap): a GPT with a
// partition for each role, GRUB for a BIOS, the distribution's signed boot chain for
// UEFI, and the trees as ext4, whose files stay where they are. It needs no loop
// device and no mount. Same trees, same Config, same epoch, same bytes. The map
// appears when all is whole, or not at all.
package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/diskmap"
	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/fat"
	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/grub"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// maxLoader bounds the files that are read from the tree into the EFI system
// partition; loaders have a few megabytes.
const maxLoader = 32 * size.MiB

// Assemble puts the disk's map and metadata into the directory c.Output, with a line
// to progress for each part. epoch is the newest time that anything on the disk carries.
func Assemble(ctx context.Context, c *Config, epoch time.Time, progress io.Writer) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("disk configuration: %w", err)
	}
	contents, err := c.measure(ctx)
	if err != nil {
		return err
	}
	c = c.sized(contents)
	partitions, err := c.layout()
	if err != nil {
		return err
	}
	a := &assembly{
		Config: c, epoch: epoch, partitions: partitions, contents: contents, progress: progress,
		disk: diskmap.Map{Size: int64(c.Size)},
	}
	if err := a.assemble(ctx); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return fault.New(fault.NoSpace, "free some space where the build keeps its state", "assemble the disk: %w", err)
		}
		return fmt.Errorf("assemble the disk: %w", err)
	}
	return nil
}

// assemble makes the metadata, then the map, which says that it is whole.
func (a *assembly) assemble(ctx context.Context) (err error) {
	file, err := create(filepath.Join(a.Output, diskmap.MetadataFile), a.Size)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	a.file = file
	if err := errors.Join(a.write(ctx), file.Close()); err != nil {
		return err
	}
	slices.SortFunc(a.disk.Extents, func(x, y diskmap.Extent) int { return cmp.Compare(x.Start, y.Start) })
	return a.disk.Write(a.Output)
}

// create makes a new file that is one hole.
func create(path string, length size.Bytes) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(int64(length)); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(path))
	}
	return file, nil
}

// assembly is one run of Assemble.
type assembly struct {
	*Config
	epoch      time.Time
	file       *os.File // of the metadata
	disk       diskmap.Map
	partitions []gpt.Partition
	contents   []content // of the file systems, by partition
	progress   io.Writer
}

// write writes the parts: data first and boot loaders last, so that boot
// arguments can come to hold digests of the data.
func (a *assembly) write(ctx context.Context) error {
	table := gpt.Table{DiskGUID: a.Identifiers.Disk, Partitions: a.partitions}
	for index, p := range a.Config.Partitions {
		if p.FileSystem == nil {
			continue
		}
		if err := a.writeFileSystem(ctx, index, p); err != nil {
			return err
		}
	}
	if index, has := a.partition(BIOSBoot); has {
		bootCode, err := a.writeBIOSBoot(ctx, a.partitions[index])
		if err != nil {
			return err
		}
		table.BootCode = bootCode
	}
	if index, has := a.partition(ESP); has {
		if err := a.writeESP(a.partitions[index]); err != nil {
			return err
		}
	}
	return table.Write(a.file, a.Size.Sectors())
}

func (a *assembly) writeFileSystem(ctx context.Context, index int, p Partition) error {
	content, place := &a.contents[index], a.partitions[index]
	if err := a.checkRoom(p, content, place.Length.Bytes()); err != nil {
		return err
	}
	a.report("%s: ext4 of %v for %s with %d files and %v", place.Name, place.Length.Bytes(), p.FileSystem.MountPoint,
		content.need.Inodes, content.need.Data.AlignUp(size.MiB))
	content.system.Size, content.system.Epoch = place.Length.Bytes(), a.epoch
	image, err := content.system.Build(ctx, content.entries)
	if err != nil {
		return err
	}
	start := int64(place.Start.Bytes())
	a.mapFiles(p.FileSystem.Label, image.Files(), start)
	return image.WriteMetadata(a.file, start)
}

// mapFiles enters the files of a file system that begins at start.
func (a *assembly) mapFiles(tree string, extents []ext4.FileExtent, start int64) {
	indexes := map[*ext4.Entry]int{}
	for _, e := range extents {
		index, known := indexes[e.Entry]
		if !known {
			index = len(a.disk.Files)
			indexes[e.Entry] = index
			a.disk.Files = append(a.disk.Files, diskmap.File{Tree: tree, Path: []byte(e.Entry.Path), Size: e.Entry.Content.Size()})
		}
		a.disk.Extents = append(a.disk.Extents, diskmap.Extent{Start: start + e.Start, Length: e.Length, File: index, Offset: e.Offset})
	}
}

func (a *assembly) writeBIOSBoot(ctx context.Context, p gpt.Partition) (bootCode []byte, err error) {
	root, _ := a.partition(Root)
	core, err := grub.Core{
		ModulesDir:    a.Boot.GRUBModules,
		RootUUID:      a.Identifiers.RootUUID(),
		RootPartition: root + 1,
		Start:         p.Start,
		Room:          p.Length,
	}.Image(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := a.file.WriteAt(core, int64(p.Start.Bytes())); err != nil {
		return nil, fmt.Errorf("write GRUB's core image: %w", err)
	}
	a.report("bios-boot: GRUB core image of %v", size.Bytes(len(core)))
	return grub.BootSector(a.Boot.GRUBModules, p.Start)
}

// writeESP writes the removable-media path that firmware finds without a boot
// entry (UEFI 2.10, section 3.5.1.1) and the vendor's directory, where the
// signed GRUB finds its configuration and where the distribution's own updates
// put new loaders. There is no fallback loader: it would write boot entries.
func (a *assembly) writeESP(p gpt.Partition) error {
	root, _ := a.partition(Root)
	tree, err := os.OpenRoot(a.Config.Partitions[root].FileSystem.Tree)
	if err != nil {
		return fmt.Errorf("EFI system partition: %w", err)
	}
	defer tree.Close()
	config, err := grub.ESPConfig(a.Identifiers.RootUUID())
	if err != nil {
		return err
	}
	arch, vendor := architectures[a.Architecture].efi, path.Join("EFI", a.Boot.EFI.Vendor)
	files := []fat.File{{Path: path.Join(vendor, "grub.cfg"), Data: config}}
	for _, loader := range []struct {
		source string
		names  []string
	}{
		{a.Boot.EFI.Shim, []string{"EFI/BOOT/BOOT" + strings.ToUpper(arch) + ".EFI", vendor + "/shim" + arch + ".efi"}},
		{a.Boot.EFI.GRUB, []string{"EFI/BOOT/grub" + arch + ".efi", vendor + "/grub" + arch + ".efi"}},
		{a.Boot.EFI.MOKManager, []string{"EFI/BOOT/mm" + arch + ".efi", vendor + "/mm" + arch + ".efi"}},
	} {
		data, err := readLoader(tree, loader.source)
		if err != nil {
			return err
		}
		for _, name := range loader.names {
			files = append(files, fat.File{Path: name, Data: data})
		}
	}
	volume := fat.Volume{
		Size: p.Length.Bytes(), Start: p.Start, Serial: uint32(a.Identifiers.ESPVolume),
		Label: "ESP", Time: a.epoch, Files: files,
	}
	a.report("esp: FAT32 of %v with %d files, vendor directory %s", volume.Size, len(files), vendor)
	return volume.Write(a.file, p.Start.Bytes())
}

func readLoader(tree *os.Root, name string) ([]byte, error) {
	relative := strings.TrimPrefix(filepath.ToSlash(name), "/")
	info, err := tree.Stat(relative)
	if err != nil {
		return nil, fmt.Errorf("boot loader in the tree: %w (is the package that has it installed?)", err)
	}
	if !info.Mode().IsRegular() || size.Bytes(info.Size()) > maxLoader {
		return nil, fmt.Errorf("boot loader %s is not a file of at most %v", name, maxLoader)
	}
	return tree.ReadFile(relative)
}

func (a *assembly) report(format string, args ...any) {
	_, _ = fmt.Fprintf(a.progress, format+"\n", args...)
}
