package vmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Format is how a disk image is stored, by the name of QEMU's block driver.
type Format string

// The formats that a machine accepts.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHD   Format = "vpc"
)

// Formats lists them.
func Formats() []Format { return []Format{Raw, QCOW2, VMDK, VHD} }

// Disk is a disk image: a file, or a part of one, as that of an OVA.
type Disk struct {
	Path   string
	Format Format // default Raw
	// Offset and Length are where the image lies in the file, in bytes. A Length
	// of 0 means the whole file.
	Offset, Length int64
}

// node is a node of QEMU's block layer, as -blockdev takes it.
type node map[string]any

// node returns the block driver that reads the image, on the one that reads the
// file.
func (d Disk) node() (node, error) {
	path, err := filepath.Abs(d.Path)
	if err != nil {
		return nil, err
	}
	file := node{"driver": "file", "filename": path}
	if d.Length > 0 {
		file = node{"driver": "raw", "offset": d.Offset, "size": d.Length, "file": file}
	}
	return node{"driver": d.Format, "file": file}, nil
}

// Size returns the number of bytes of the disk, as QEMU reads the image.
func (d Disk) Size(ctx context.Context) (int64, error) {
	if _, err := os.Stat(d.Path); err != nil {
		return 0, fault.New(fault.Usage, "", "image: %w", err)
	}
	image, err := d.node()
	if err != nil {
		return 0, err
	}
	name, err := json.Marshal(image)
	if err != nil {
		return 0, fmt.Errorf("name %s for qemu-img: %w", d.Path, err)
	}
	out, err := qemuImg(ctx, "info", "--output=json", "json:"+string(name))
	if err != nil {
		return 0, err
	}
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return 0, fmt.Errorf("read what qemu-img says about %s: %w", d.Path, err)
	}
	return info.Size, nil
}

// disk makes a qcow2 file at overlay that is o.Growth larger than the image and
// takes the guest's writes, and returns the arguments with which QEMU reads the
// image through it, under the name disk.
func (o Options) disk(ctx context.Context, overlay string) ([]string, error) {
	if !slices.Contains(Formats(), o.Disk.Format) {
		return nil, fault.New(fault.Usage, "", "image %s: unknown format %q; want one of %v", o.Disk.Path, o.Disk.Format, Formats())
	}
	size, err := o.Disk.Size(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := qemuImg(ctx, "create", "-q", "-f", "qcow2", overlay, strconv.FormatInt(size+o.Growth, 10)); err != nil {
		return nil, err
	}
	image, err := o.Disk.node()
	if err != nil {
		return nil, err
	}
	image["node-name"], image["read-only"] = "image", true
	var args []string
	for _, n := range []node{image, {
		"node-name": "disk", "driver": "qcow2", "backing": "image", "discard": "unmap",
		// The host need not outlive the guest: QEMU writes all of an overlay when it ends.
		"cache": node{"no-flush": true},
		"file":  node{"driver": "file", "filename": overlay},
	}} {
		argument, err := json.Marshal(n)
		if err != nil {
			return nil, fmt.Errorf("describe the disk %s for QEMU: %w", o.Disk.Path, err)
		}
		args = append(args, "-blockdev", string(argument))
	}
	return args, nil
}
