package ova

import (
	"archive/tar"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

// Bounds of what is read: a descriptor of VMware's has 10 to 100 KiB, a package
// one file for each disk and a few more.
const (
	maxDescriptor = 4 << 20
	maxFiles      = 1000
)

// ErrUnsupported is in the chain of errors about packages that are whole, but
// have no disk that this reader knows.
var ErrUnsupported = errors.New("not supported")

// Package is an open OVA; as a disk it is the first one that its descriptor
// names.
type Package struct {
	*vmdk.Image
	// Descriptor is the OVF descriptor as it stands in the file.
	Descriptor []byte
	// Files are the archive's files in order.
	Files []File

	disk format.Extent // where the VMDK lies
}

// Embedded is where the VMDK lies in the package.
func (p *Package) Embedded() format.Extent { return p.disk }

// File is one file of a package.
type File struct {
	Name string
	// Offset and Size are in bytes; Offset counts from the archive's begin.
	Offset, Size int64
}

// summary is what the reader wants of a descriptor; prefixes are left out, so
// that any are understood.
type summary struct {
	Files []struct {
		Href        string `xml:"href,attr"`
		ID          string `xml:"id,attr"`
		Compression string `xml:"compression,attr"`
		ChunkSize   string `xml:"chunkSize,attr"`
	} `xml:"References>File"`
	Disks []struct {
		FileRef string `xml:"fileRef,attr"`
	} `xml:"DiskSection>Disk"`
	System struct {
		Name    string `xml:"Name"`
		Product []struct {
			Product    string `xml:"Product"`
			Vendor     string `xml:"Vendor"`
			Version    string `xml:"Version"`
			Category   string `xml:"Category"`
			Properties []struct {
				Key   string `xml:"key,attr"`
				Value string `xml:"value,attr"`
			} `xml:"Property"`
		} `xml:"ProductSection"`
	} `xml:"VirtualSystem"`
}

// Open reads the archive's headers, the OVF descriptor and the VMDK's tables.
func Open(r io.ReaderAt, size int64) (*Package, error) {
	p := &Package{}
	if err := p.list(r, size); err != nil {
		return nil, err
	}
	if len(p.Files) == 0 || !strings.EqualFold(path.Ext(p.Files[0].Name), ".ovf") {
		return nil, fmt.Errorf("the archive does not begin with an OVF descriptor: %w", format.ErrCorrupt)
	}
	descriptor := p.Files[0]
	if descriptor.Size > maxDescriptor {
		return nil, fmt.Errorf("OVF descriptor of %d bytes: %w", descriptor.Size, format.ErrCorrupt)
	}
	p.Descriptor = make([]byte, descriptor.Size)
	if err := format.ReadFull(r, size, p.Descriptor, descriptor.Offset); err != nil {
		return nil, fmt.Errorf("read the OVF descriptor: %w", err)
	}
	disk, err := p.firstDisk()
	if err != nil {
		return nil, err
	}
	p.disk = format.Extent{Offset: disk.Offset, Length: disk.Size}
	p.Image, err = vmdk.Open(io.NewSectionReader(r, disk.Offset, disk.Size), disk.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", disk.Name, err)
	}
	return p, nil
}

// list reads the headers of the archive's files.
func (p *Package) list(r io.ReaderAt, size int64) error {
	section := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(section)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w: %w", format.ErrCorrupt, err)
		}
		if len(p.Files) == maxFiles {
			return fmt.Errorf("more than %d files in the archive: %w", maxFiles, format.ErrCorrupt)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > size-at {
			return fmt.Errorf("%q in the archive: type %q, %d bytes: %w", h.Name, h.Typeflag, h.Size, format.ErrCorrupt)
		}
		p.Files = append(p.Files, File{Name: h.Name, Offset: at, Size: h.Size})
	}
}

// firstDisk finds the file of the first disk.
func (p *Package) firstDisk() (File, error) {
	s, err := p.parse()
	if err != nil {
		return File{}, err
	}
	for _, d := range s.Disks {
		for _, f := range s.Files {
			if f.ID != d.FileRef || f.ID == "" {
				continue
			}
			if f.Compression != "" && f.Compression != "identity" || f.ChunkSize != "" {
				return File{}, fmt.Errorf("%s is compressed (%s) or in chunks: %w", f.Href, f.Compression, ErrUnsupported)
			}
			for _, stored := range p.Files {
				if stored.Name == f.Href {
					return stored, nil
				}
			}
			return File{}, fmt.Errorf("the descriptor names %q, which is not in the archive: %w", f.Href, format.ErrCorrupt)
		}
	}
	return File{}, fmt.Errorf("the descriptor names no disk with a file: %w", ErrUnsupported)
}

func (p *Package) parse() (summary, error) {
	var s summary
	decoder := xml.NewDecoder(bytes.NewReader(p.Descriptor))
	if err := decoder.Decode(&s); err != nil {
		return s, fmt.Errorf("OVF descriptor: %w: %w", format.ErrCorrupt, err)
	}
	return s, nil
}

// Product returns the virtual machine's name and its first product section.
func (p *Package) Product() (name string, product Product, err error) {
	s, err := p.parse()
	if err != nil || len(s.System.Product) == 0 {
		return s.System.Name, Product{}, err
	}
	first := s.System.Product[0]
	product = Product{Name: first.Product, Vendor: first.Vendor, Version: first.Version, Category: first.Category}
	for _, each := range first.Properties {
		product.Properties = append(product.Properties, Property{each.Key, each.Value})
	}
	return s.System.Name, product, nil
}
