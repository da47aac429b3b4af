package vmdk

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"text/template"

	"nodesmith.dev/nodesmith/internal/format"
)

// The descriptor's room in the file, in sectors ("The Descriptor File").
const (
	descriptorOffset = 1
	descriptorSize   = 20
)

//go:embed assets/descriptor
var descriptorText string

var descriptorTemplate = template.Must(template.New("descriptor").Parse(descriptorText))

// Options says what the descriptor tells; the zero value is what a node on
// vSphere wants.
type Options struct {
	// FileName is what the descriptor calls its own file; empty means disk.vmdk.
	FileName string
	// AdapterType is the disk's controller: lsilogic (the default), buslogic,
	// ide. VMware's products write lsilogic for paravirtual SCSI too: OVF names
	// the real one.
	AdapterType string
	// HardwareVersion is the virtual hardware version of the descriptor, which
	// only ESX 3 and older look at; 0 means 4, as VMware's tools write.
	HardwareVersion int
	// ToolsVersion is the guest's VMware Tools; 0 means 2147483647, which says
	// that the guest manages them (open-vm-tools).
	ToolsVersion int
}

func (o Options) withDefaults() (Options, error) {
	if o.FileName == "" {
		o.FileName = "disk.vmdk"
	}
	if o.AdapterType == "" {
		o.AdapterType = "lsilogic"
	}
	if o.HardwareVersion == 0 {
		o.HardwareVersion = 4
	}
	if o.ToolsVersion == 0 {
		o.ToolsVersion = 1<<31 - 1
	}
	switch o.AdapterType {
	case "lsilogic", "buslogic", "ide":
	default:
		return o, fmt.Errorf("VMDK adapter type %q: want lsilogic, buslogic or ide", o.AdapterType)
	}
	if bytes.ContainsAny([]byte(o.FileName), "\"\n\r") || len(o.FileName) > 255 {
		return o, fmt.Errorf("VMDK file name %q: quotes and line ends can't be written", o.FileName)
	}
	return o, nil
}

// geometry is the disk's cylinders, heads and sectors: for SCSI disks as the
// BIOS of VMware's LSI controllers has it.
func geometry(adapter string, sectors int64) (cylinders, heads, perTrack int64) {
	switch {
	case adapter == "ide":
		return min(sectors/(16*63), 16383), 16, 63
	case sectors < 1<<21: // under 1 GiB
		return sectors / (64 * 32), 64, 32
	case sectors < 1<<22: // under 2 GiB
		return sectors / (128 * 32), 128, 32
	}
	return min(sectors/(255*63), 65535), 255, 63
}

// descriptor writes the embedded descriptor, filled up with zeros. The content
// IDs are made of the disk's content.
func (o Options) descriptor(sectors int64, s format.Summary) ([]byte, error) {
	cylinders, heads, perTrack := geometry(o.AdapterType, sectors)
	id := s.Identity
	cid := binary.BigEndian.Uint32(id[12:])
	if cid >= 0xfffffffe { // CID_NOPARENT, and what some tools keep for themselves
		cid = 0xfffffffd
		binary.BigEndian.PutUint32(id[12:], cid)
	}
	var buf bytes.Buffer
	err := descriptorTemplate.Execute(&buf, map[string]any{
		"CID": cid, "LongCID": id[:], "Sectors": sectors, "Options": o,
		"Cylinders": cylinders, "Heads": heads, "PerTrack": perTrack,
	})
	if err != nil {
		return nil, fmt.Errorf("write the descriptor: %w", err)
	}
	room := make([]byte, descriptorSize*format.SectorSize)
	copy(room, buf.Bytes()) // 255 bytes of name leave 9 KiB free
	return room, nil
}
