// Package size has the two units that disks are counted in, as types, so that
// a number of sectors is never taken for a number of bytes.
package size

import "fmt"

// Bytes is a length or an offset in bytes. In JSON it is a plain integer.
type Bytes int64

// Sectors is a length or a logical block address in units of SectorSize.
type Sectors uint64

// The binary multiples of a byte.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// SectorSize is the logical block size of every disk made here. Virtual disks
// of all supported platforms have 512-byte logical blocks.
const SectorSize Bytes = 512

// Sectors returns how many sectors hold b bytes, a partial one counted whole.
// A negative b gives 0.
func (b Bytes) Sectors() Sectors {
	if b <= 0 {
		return 0
	}
	return Sectors((b-1)/SectorSize + 1)
}

// Bytes returns the same length in bytes.
func (s Sectors) Bytes() Bytes { return Bytes(s) * SectorSize }

// AlignUp returns the smallest multiple of unit that is not below b.
func (b Bytes) AlignUp(unit Bytes) Bytes { return (b + unit - 1) / unit * unit }

// AlignDown returns the largest multiple of unit that is not above b.
func (b Bytes) AlignDown(unit Bytes) Bytes { return b / unit * unit }

// String writes whole GiB, MiB or KiB where b is a multiple of them, MiB with
// one decimal for other large values, and bytes else.
func (b Bytes) String() string {
	for _, u := range []struct {
		unit Bytes
		name string
	}{{GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b >= u.unit && b%u.unit == 0 {
			return fmt.Sprintf("%d %s", b/u.unit, u.name)
		}
	}
	if b >= MiB {
		return fmt.Sprintf("%.1f MiB", float64(b)/float64(MiB))
	}
	return fmt.Sprintf("%d bytes", int64(b))
}
