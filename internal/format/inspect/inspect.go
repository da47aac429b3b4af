// Package inspect says what is in a disk image of any format that nodesmith
// reads, also one that it did not make.
package inspect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
)

// APIVersion and ReportKind are those of a Report's JSON form.
const (
	APIVersion = "nodesmith.dev/inspect/v1alpha1"
	ReportKind = "InspectReport"
)

// Report is what is known of one file. Sizes are in bytes.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	File       string `json:"file"`
	Format     string `json:"format"`
	// VirtualSize is the disk's, FileSize the file's, StoredSize what it takes
	// on the file system it lies on, DataSize what of the disk is mapped to data.
	VirtualSize int64 `json:"virtualSize"`
	FileSize    int64 `json:"fileSize"`
	StoredSize  int64 `json:"storedSize"`
	DataSize    int64 `json:"dataSize"`
	// SHA256 is the file's digest; "" if not asked for.
	SHA256 string `json:"sha256,omitempty"`
	// PartitionTable is gpt, mbr or "".
	PartitionTable string      `json:"partitionTable,omitempty"`
	Partitions     []Partition `json:"partitions,omitempty"`
	// FileSystem is that of a disk without partitions; "" if unknown.
	FileSystem string `json:"fileSystem,omitempty"`
	// VirtualMachine and Product are what an OVA's descriptor says.
	VirtualMachine string       `json:"virtualMachine,omitempty"`
	Product        *ova.Product `json:"product,omitempty"`
	// Files are what an OVA consists of.
	Files []string `json:"files,omitempty"`
	// Notes are what is odd about the image.
	Notes []string `json:"notes,omitempty"`
}

// Partition is one partition of the disk.
type Partition struct {
	Number     int    `json:"number"`
	Start      int64  `json:"start"`
	Length     int64  `json:"length"`
	Type       string `json:"type"`
	Name       string `json:"name,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	FileSystem string `json:"fileSystem,omitempty"`
	Label      string `json:"label,omitempty"`
}

// File inspects the file at path, as the named format or as what it looks like;
// the digest reads all of it.
func File(ctx context.Context, path, formatName string, digest bool) (Report, error) {
	report := Report{APIVersion: APIVersion, Kind: ReportKind, File: path}
	image, err := known.OpenFile(path, formatName)
	if err != nil {
		return report, err
	}
	defer func() { _ = image.Close() }() // only read
	report.Format, report.FileSize, report.StoredSize = image.Format.Name, image.Info.Size(), known.StoredSize(image.Info)
	report.VirtualSize = image.Size()
	if report.DataSize, err = dataSize(ctx, image); err != nil {
		return report, fmt.Errorf("%s: %w", path, err)
	}
	report.contents(image)
	if p, ok := image.Source.(*ova.Package); ok {
		report.describe(p)
	}
	if digest {
		if report.SHA256, err = sum(ctx, image.File); err != nil {
			return report, fmt.Errorf("digest of %s: %w", path, err)
		}
	}
	return report, nil
}

func dataSize(ctx context.Context, src format.Source) (total int64, err error) {
	for offset := int64(0); ; {
		extent, err := src.NextData(offset)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		if err := ctx.Err(); err != nil {
			return total, err
		}
		total += extent.Length
		offset = extent.End()
	}
}

// describe takes over what an OVA says of itself.
func (r *Report) describe(p *ova.Package) {
	name, product, err := p.Product()
	if err != nil {
		r.Notes = append(r.Notes, err.Error())
		return
	}
	r.VirtualMachine, r.Product = name, &product
	for _, f := range p.Files {
		r.Files = append(r.Files, f.Name)
	}
}

func sum(ctx context.Context, file *os.File) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		n, err := file.Read(buf)
		digest.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(digest.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
}
