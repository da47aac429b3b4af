package cli

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
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

// configureSigning has the configuration name a key and its certificate.
func configureSigning(t *testing.T) {
	t.Helper()
	key, certificate := keyPair(t)
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	if err := os.Mkdir(filepath.Join(dir, "nodesmith"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "ovaSigning: {key: " + key + ", certificate: " + certificate + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "nodesmith", "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryOVAIsSignedWithTheConfigurationsKey(t *testing.T) {
	raw := rawDisk(t)
	configureSigning(t)
	signed := func(what, path, name string) {
		t.Helper()
		if out := output(t, "inspect", "--no-digest", path); !strings.Contains(out, name+".mf "+name+".cert") {
			t.Errorf("%s: inspect says\n%s", what, out)
		}
	}
	signed("convert", strings.TrimSpace(output(t, "convert", raw, "--to", "ova", "-o", t.TempDir())), "node")

	_, disk := stored(t)
	content, err := disk.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fromStore := filesOfStored(disk, content)
	defer closed(t, fromStore)
	path, err := fromStore.path(t.Context(), "ova")
	if err != nil {
		t.Fatal(err)
	}
	signed("publish of an image in the store", path, "web-vsphere")

	source, err := openDisk(t.Context(), raw, "")
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := filesOf(raw, source)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, fromFile)
	if path, err = fromFile.path(t.Context(), "ova"); err != nil {
		t.Fatal(err)
	}
	signed("publish of a file", path, "disk")
}

// closed closes what must close well.
func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
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
