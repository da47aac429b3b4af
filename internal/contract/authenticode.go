package contract

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // old signatures name it; it is compared, not relied upon
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// pe is what matters of a PE program: where its signature is.
type pe struct {
	r        *io.SectionReader
	checksum int64 // offset of the field CheckSum
	entry    int64 // offset of the data directory's entry for certificates
	start    int64 // of the certificate table; 0 when there is none
	size     int64
}

// Offsets of the PE format ("PE Format", Microsoft, sections "COFF File
// Header", "Optional Header" and "The Attribute Certificate Table").
const (
	peOffset        = 0x3C
	optionalHeader  = 24 // behind the offset of "PE\0\0"
	checksumField   = 64
	certificates32  = 96 + 4*8
	certificates64  = 112 + 4*8
	pe32, pe32plus  = 0x10b, 0x20b
	pkcsSignedData  = 2
	maxCertificates = 1 << 20
)

func readPE(r *io.SectionReader) (*pe, error) {
	head := make([]byte, 4096)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if len(head) < 64 || string(head[:2]) != "MZ" {
		return nil, errors.New("not a PE program")
	}
	at := int64(binary.LittleEndian.Uint32(head[peOffset:]))
	if at < 0 || at+optionalHeader+certificates64+8 > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return nil, errors.New("not a PE program")
	}
	optional := at + optionalHeader
	p := &pe{r: r, checksum: optional + checksumField}
	switch binary.LittleEndian.Uint16(head[optional:]) {
	case pe32:
		p.entry = optional + certificates32
	case pe32plus:
		p.entry = optional + certificates64
	default:
		return nil, errors.New("not a PE program: unknown optional header")
	}
	p.start = int64(binary.LittleEndian.Uint32(head[p.entry:]))
	p.size = int64(binary.LittleEndian.Uint32(head[p.entry+4:]))
	return p, nil
}

// signature is PKCS #7 SignedData as far as it is needed (RFC 2315).
type signature struct {
	Type    asn1.ObjectIdentifier
	Content struct {
		Version int
		Digests asn1.RawValue
		Info    struct {
			Type    asn1.ObjectIdentifier
			Content struct { // SpcIndirectDataContent
				Data   asn1.RawValue
				Digest struct {
					Algorithm struct {
						ID         asn1.ObjectIdentifier
						Parameters asn1.RawValue `asn1:"optional"`
					}
					Digest []byte
				}
			} `asn1:"explicit,tag:0"`
		}
		Rest asn1.RawValue `asn1:"optional"`
	} `asn1:"explicit,tag:0"`
}

var (
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// checkSignature returns an error unless the program carries an Authenticode
// signature for the bytes that it has. Whose signature it is, the firmware and
// shim judge by keys that are not in the image.
func (p *pe) checkSignature() error {
	if p.start == 0 || p.size == 0 {
		return errors.New("it is not signed")
	}
	if p.size > maxCertificates || p.start+p.size > p.r.Size() || p.start < p.entry {
		return errors.New("its signature lies outside the file")
	}
	table := make([]byte, p.size)
	if _, err := p.r.ReadAt(table, p.start); err != nil {
		return err
	}
	checked := 0
	for len(table) >= 8 {
		length, kind := int(binary.LittleEndian.Uint32(table)), binary.LittleEndian.Uint16(table[6:])
		if length < 8 || length > len(table) {
			return errors.New("its signature is damaged")
		}
		if kind == pkcsSignedData {
			if err := p.compare(table[8:length]); err != nil {
				return err
			}
			checked++
		}
		table = table[min((length+7)&^7, len(table)):]
	}
	if checked == 0 {
		return errors.New("it is not signed")
	}
	return nil
}

// compare checks the digest in one signature.
func (p *pe) compare(der []byte) error {
	var s signature
	if _, err := asn1.Unmarshal(der, &s); err != nil {
		return fmt.Errorf("its signature cannot be read: %w", err)
	}
	digest := s.Content.Info.Content.Digest
	var h hash.Hash
	switch {
	case digest.Algorithm.ID.Equal(oidSHA256):
		h = sha256.New()
	case digest.Algorithm.ID.Equal(oidSHA1):
		h = sha1.New() //nolint:gosec // see the import
	default:
		return fmt.Errorf("its signature uses the unknown digest %v", digest.Algorithm.ID)
	}
	// Everything but the fields that signing changes, and the signature itself.
	for _, part := range [][2]int64{
		{0, p.checksum}, {p.checksum + 4, p.entry}, {p.entry + 8, p.start}, {p.start + p.size, p.r.Size()},
	} {
		if part[1] < part[0] {
			return errors.New("its headers are damaged")
		}
		if _, err := io.Copy(h, io.NewSectionReader(p.r, part[0], part[1]-part[0])); err != nil {
			return err
		}
	}
	if !bytes.Equal(h.Sum(nil), digest.Digest) {
		return errors.New("it was changed after it was signed")
	}
	return nil
}
