package cli

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/host"
)

// keyPair writes an RSA key and its own certificate.
func keyPair(t *testing.T) (key, certificate string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "image builder"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return write(t, "key.pem", text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))), write(t, "certificate.pem", text("CERTIFICATE", der))
}

func TestAnOVAIsSignedWithTheFilesThatFlagsName(t *testing.T) {
	key, certificate := keyPair(t)
	dir := t.TempDir()
	if _, errOut, code := command("convert", rawDisk(t), "--to", "ova", "-o", dir, "--ova-sign-key", key, "--ova-sign-certificate", certificate); code != 0 {
		t.Fatal(errOut)
	}
	if out, _, _ := command("inspect", filepath.Join(dir, "node.ova")); !strings.Contains(out, "node.mf node.cert") {
		t.Errorf("inspect says\n%s", out)
	}
}

func TestFlagsStandBeforeTheConfigurationsKey(t *testing.T) {
	key, certificate := keyPair(t)
	configured := host.OVASigning{Key: "/nonexistent", Certificate: certificate}
	if _, err := (signingFlags{}).or(configured).signer(); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("without flags: %v", err)
	}
	signer, err := (signingFlags{host.OVASigning{Key: key, Certificate: certificate}}).or(configured).signer()
	if err != nil || signer == nil {
		t.Errorf("with flags: %v", err)
	}
	if signer, err := (signingFlags{}).or(host.OVASigning{}).signer(); signer != nil || err != nil {
		t.Errorf("without any: %v, %v", signer, err)
	}
}
