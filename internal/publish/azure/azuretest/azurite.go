// Package azuretest starts what stands in for Azure in tests: Azurite, which is
// Microsoft's emulator of the blob service, and a server of Azure Resource
// Manager made of the SDK's own fakes, with a memory behind them.
//
// What comes in is a test, what goes out are servers on loopback that end with
// it, and what they were asked. Azurite checks credentials, page boundaries and
// conditions; it does not check the MD5 of a page. The fakes check the form of
// an address and that a body decodes; Check holds each body against what the
// SDK's module says of it.
package azuretest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// Account is the storage account that Azurite has.
const Account = "nodesmithtest"

//go:embed azurite/package-lock.json
var packageLock []byte

// Azurite is a running Azurite.
type Azurite struct {
	// Endpoint is the blob service's address: https://127.0.0.1:PORT. The account
	// is the first part of the path.
	Endpoint string
	// Client trusts its certificate.
	Client *http.Client
	key    *blob.SharedKeyCredential
}

// StartAzurite starts Azurite on a free port of loopback; it ends with the test.
// scripts/install-azurite.sh installs it.
func StartAzurite(t testing.TB) *Azurite {
	t.Helper()
	testenv.Need(t, "node")
	program := filepath.Join(installed(t), "node_modules/azurite/dist/src/blob/main.js")
	if _, err := os.Stat(program); err != nil {
		testenv.Lacks(t, "Azurite (scripts/install-azurite.sh)")
	}
	dir := t.TempDir()
	certificate, key, pool := loopbackCertificate(t, dir)
	secret := make([]byte, 64)
	_, _ = rand.Read(secret)
	accountKey := base64.StdEncoding.EncodeToString(secret)
	cmd := exec.Command("node", program, "--blobHost", "127.0.0.1", "--blobPort", "0",
		"--oauth", "basic", "--cert", certificate, "--key", key, "--silent", "--disableTelemetry",
		"--skipApiVersionCheck", "--disableProductStyleUrl", "--inMemoryPersistence")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+Account+":"+accountKey)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	credential, err := blob.NewSharedKeyCredential(Account, accountKey)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &Azurite{Endpoint: address(t, out), Client: &http.Client{Transport: transport}, key: credential}
}

// installed is where scripts/install-azurite.sh puts what the lock names.
func installed(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(packageLock)
	return filepath.Join(cache, "nodesmith-test", "azurite-"+hex.EncodeToString(sum[:6]))
}

// address waits until Azurite says where it listens.
func address(t testing.TB, out io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	var said strings.Builder
	go func() {
		defer close(found)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if _, at, ok := strings.Cut(lines.Text(), "successfully listens on "); ok {
				found <- strings.TrimSpace(at)
				_, _ = io.Copy(io.Discard, out)
				return
			}
		}
	}()
	select {
	case at, ok := <-found:
		if !ok {
			t.Fatalf("Azurite ended:\n%s", said.String())
		}
		return at
	case <-time.After(3 * time.Minute):
		t.Fatal("Azurite did not say within 3 minutes where it listens")
		return ""
	}
}

// SAS returns the address of a blob with a signature that lets its bearer read
// and write it for a while.
func (a *Azurite) SAS(t testing.TB, container, name string, lasts time.Duration) string {
	t.Helper()
	query, err := sas.BlobSignatureValues{
		ContainerName: container, BlobName: name, ExpiryTime: time.Now().Add(lasts).UTC(),
		Permissions: (&sas.BlobPermissions{Read: true, Write: true}).String(),
	}.SignWithSharedKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return a.URL(container, name) + "?" + query.Encode()
}

// URL is the address of a blob.
func (a *Azurite) URL(container, name string) string {
	return a.Endpoint + "/" + Account + "/" + container + "/" + name
}

// Key signs requests with the account's key: the tests' own, to look behind the
// publisher's back.
func (a *Azurite) Key() *blob.SharedKeyCredential { return a.key }

// loopbackCertificate makes a certificate for 127.0.0.1.
func loopbackCertificate(t testing.TB, dir string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nodesmith test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: privateDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key, pool
}

// PageBlob is a blob, with the account's key: to look behind the publisher's
// back.
func (a *Azurite) PageBlob(container, name string) (*pageblob.Client, error) {
	return pageblob.NewClientWithSharedKeyCredential(a.URL(container, name), a.key,
		&pageblob.ClientOptions{ClientOptions: policy.ClientOptions{Transport: a.Client}})
}

// Container is PageBlob for a container.
func (a *Azurite) Container(name string) (*container.Client, error) {
	return container.NewClientWithSharedKeyCredential(a.Endpoint+"/"+Account+"/"+name, a.key,
		&container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: a.Client}})
}
