// Package certificate reads CA certificates and names them as OpenSSL does.
//
// What comes in is PEM text; what goes out is the certificate with the hash
// under which OpenSSL looks it up in a directory of certificates. Deterministic.
package certificate

import (
	"crypto/sha1" //nolint:gosec // the name of a file, which OpenSSL has chosen
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// CA is a certificate to be trusted.
type CA struct {
	// PEM is the certificate alone: one block without headers and comments.
	PEM string
	// SubjectHash is what "openssl x509 -subject_hash" prints: 8 hexadecimal
	// digits.
	SubjectHash string
}

// Parse reads text that holds exactly one certificate, perhaps with comments
// around it, and nothing else that is PEM.
func Parse(text []byte) (CA, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return CA{}, errors.New("holds no PEM block: -----BEGIN CERTIFICATE-----")
	}
	if block.Type != "CERTIFICATE" {
		return CA{}, fmt.Errorf("holds a %s", block.Type)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return CA{}, fmt.Errorf("holds a second block, a %s", more.Type)
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return CA{}, fmt.Errorf("holds no certificate: %w", err)
	}
	hash, err := subjectHash(parsed.RawSubject)
	if err != nil {
		return CA{}, fmt.Errorf("the subject: %w", err)
	}
	return CA{PEM: string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})), SubjectHash: hash}, nil
}

// relativeNameSET is a SET OF attributes; encoding/asn1 goes by the type's name.
type relativeNameSET []attribute

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// subjectHash is X509_NAME_hash of OpenSSL 1.0 and later (crypto/x509/x_name.c,
// x509_name_canon): the SHA-1 of the sets in canonical form one after the other,
// of which the first four bytes are taken as a little-endian number.
func subjectHash(subject []byte) (string, error) {
	var names []relativeNameSET
	if _, err := asn1.Unmarshal(subject, &names); err != nil {
		return "", fmt.Errorf("is no distinguished name: %w", err)
	}
	hash := sha1.New() //nolint:gosec // see above
	for _, name := range names {
		canonical := slices.Clone(name)
		for i, a := range name {
			if text, ok := characters(a.Value); ok {
				text = lower(strings.Join(strings.FieldsFunc(text, isSpace), " "))
				canonical[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)}
			}
		}
		encoded, err := asn1.Marshal(canonical)
		if err != nil {
			return "", err
		}
		hash.Write(encoded)
	}
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(hash.Sum(nil))), nil
}

// tagUniversalString is UniversalString's tag (X.680, 8.4), unknown to encoding/asn1.
const tagUniversalString = 28

// characters returns the text of a string type that OpenSSL makes canonical
// (ASN1_MASK_CANON); ok is false for other types, which stay as they are.
func characters(v asn1.RawValue) (text string, ok bool) {
	if v.Class != asn1.ClassUniversal {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, 26: // VisibleString
		return string(v.Bytes), true
	case asn1.TagT61String: // taken for Latin-1
		runes := make([]rune, 0, len(v.Bytes))
		for _, b := range v.Bytes {
			runes = append(runes, rune(b))
		}
		return string(runes), true
	case asn1.TagBMPString:
		units := make([]uint16, 0, len(v.Bytes)/2)
		for b := v.Bytes; len(b) >= 2; b = b[2:] {
			units = append(units, binary.BigEndian.Uint16(b))
		}
		return string(utf16.Decode(units)), true
	case tagUniversalString:
		runes := make([]rune, 0, len(v.Bytes)/4)
		for b := v.Bytes; len(b) >= 4; b = b[4:] {
			runes = append(runes, rune(binary.BigEndian.Uint32(b)))
		}
		return string(runes), true
	}
	return "", false
}

// isSpace and lower know ASCII alone, as OpenSSL's do.
func isSpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
