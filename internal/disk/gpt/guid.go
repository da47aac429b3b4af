package gpt

import (
	"encoding/hex"
	"fmt"
)

// GUID is a globally unique identifier in the byte order of RFC 9562, the
// order in which its text form shows the bytes. It is also used for UUIDs that
// are not stored in a partition table.
type GUID [16]byte

// Partition types. The first two are from the GRUB manual (BIOS installation)
// and UEFI 2.10, section 5.3.3, table 5.7; the last is from the UAPI Group's
// Discoverable Partitions Specification.
var (
	BIOSBoot       = MustGUID("21686148-6449-6e6f-744e-656564454649")
	EFISystem      = MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	LinuxRootX8664 = MustGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	LinuxHome      = MustGUID("933ac7e1-2eb4-4f13-b844-0e14e2aef915")
	LinuxSrv       = MustGUID("3b8f8425-20e0-4f3b-907f-1a25a76f98e8")
	LinuxVarTmp    = MustGUID("7ec6f557-3bc5-4aca-b293-16ef5df639d1")
	LinuxData      = MustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
)

// ParseGUID reads the form 01234567-89ab-cdef-0123-456789abcdef, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("%q is not a UUID: want 8-4-4-4-12 hexadecimal digits", s)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(g[:], []byte(digits)); err != nil {
		return GUID{}, fmt.Errorf("%q is not a UUID: %w", s, err)
	}
	return g, nil
}

// MustGUID is ParseGUID for constants of the program; it panics on bad text.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String returns the lower-case text form.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// MarshalText makes a GUID a string in JSON.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (g *GUID) UnmarshalText(text []byte) (err error) {
	*g, err = ParseGUID(string(text))
	return err
}

// mixedEndian converts between the text's byte order and that of the disk,
// where the first three fields are little endian (UEFI 2.10, appendix A). The
// conversion is its own inverse.
func (g GUID) mixedEndian() GUID {
	return GUID{
		g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6],
		g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15],
	}
}
