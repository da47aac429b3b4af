package ova

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Signer signs manifests with an RSA key, the only kind that OVF's signature
// (section "Distribution of OVF packages") and its readers know.
type Signer struct {
	key          *rsa.PrivateKey
	certificates []byte // PEM, the signer's first
}

// NewSigner takes a private key (PEM: PKCS #8 or PKCS #1) and its certificate,
// with those of its issuers behind it if wanted (PEM).
func NewSigner(keyPEM, certificatePEM []byte) (*Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("the signing key is no PEM file")
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s := &Signer{key: key}
	for rest := certificatePEM; ; {
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("signing certificate: %w", err)
		}
		if len(s.certificates) == 0 && !key.PublicKey.Equal(certificate.PublicKey) {
			return nil, errors.New("the signing certificate is for another key")
		}
		s.certificates = append(s.certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	if len(s.certificates) == 0 {
		return nil, errors.New("the signing certificate's file has no certificate (PEM)")
	}
	return s, nil
}

// Identity follows the key: packages signed by different keys differ.
func (s *Signer) Identity() string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(s.certificates))
}

func parseKey(der []byte) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key is a %T: OVF knows RSA only", key)
	}
	return rsaKey, nil
}

// sign returns the certificate file for a manifest: the signature of its SHA-256
// digest (PKCS #1 v1.5, which has no randomness), then the certificates.
func (s *Signer) sign(name string, manifest []byte) ([]byte, error) {
	digest := sha256.Sum256(manifest)
	signature, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "SHA256(%s)= %x\n", name, signature)
	buf.Write(s.certificates)
	return buf.Bytes(), nil
}
