package apply

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// block is shaped as a certificate; this package looks no further.
func block(content string) string {
	return "-----BEGIN CERTIFICATE-----\n" + content + "\n-----END CERTIFICATE-----\n"
}

// store is a tree with one certificate of its own.
func store(t *testing.T) string {
	t.Helper()
	entries := maps.Clone(minimal)
	maps.Copy(entries, map[string]string{
		"etc/ssl/certs/ca-certificates.crt": block("SVNSRw=="),
		"etc/ssl/certs/ISRG.pem -> ":        "/usr/share/ca-certificates/mozilla/ISRG.crt",
		"etc/ssl/certs/4042bcee.0 -> ":      "ISRG.pem",
	})
	return plant(t, entries)
}

func trusting(t *testing.T, certificates ...node.Certificate) node.Config {
	t.Helper()
	c, err := node.TrustIn("debian", certificates)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificatesAreAddedOnce(t *testing.T) {
	testenv.NeedRoot(t)
	target := store(t)
	// b has the subject of a certificate that is there, c that of b.
	c := trusting(t,
		node.Certificate{Name: "a", PEM: block("YQ=="), SubjectHash: "34ee7f32"},
		node.Certificate{Name: "b", PEM: block("Yg=="), SubjectHash: "4042bcee"},
		node.Certificate{Name: "c", PEM: block("Yw=="), SubjectHash: "4042bcee"})
	for range 2 {
		if err := apply(t, target, "", c); err != nil {
			t.Fatal(err)
		}
		got := listing(t, filepath.Join(target, "etc/ssl/certs"))
		for _, want := range []string{
			`/34ee7f32.0 120777 0:0 1760000000 "a.pem"`,
			`/4042bcee.0 120777`, `/4042bcee.1 120777 0:0 1760000000 "b.pem"`, `/4042bcee.2 120777 0:0 1760000000 "c.pem"`,
			`/a.pem 120777 0:0 1760000000 "/usr/local/share/ca-certificates/a.crt"`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("the store lacks %s in\n%s", want, got)
			}
		}
		if strings.Contains(got, ".3") {
			t.Errorf("a certificate is there twice:\n%s", got)
		}
		bundle, err := os.ReadFile(filepath.Join(target, "etc/ssl/certs/ca-certificates.crt"))
		if want := block("SVNSRw==") + block("YQ==") + block("Yg==") + block("Yw=="); err != nil || string(bundle) != want {
			t.Errorf("bundle %q, %v", bundle, err)
		}
	}
	anchor, err := os.ReadFile(filepath.Join(target, "usr/local/share/ca-certificates/a.crt"))
	if err != nil || string(anchor) != block("YQ==") {
		t.Errorf("anchor %q, %v", anchor, err)
	}
}

func TestCertificatesThatCannotBeAdded(t *testing.T) {
	testenv.NeedRoot(t)
	c := trusting(t, node.Certificate{Name: "ISRG", PEM: block("YQ=="), SubjectHash: "34ee7f32"})
	if err := apply(t, store(t), "", c); err == nil || !strings.Contains(err.Error(), "give it another name") {
		t.Errorf("name that is taken: %v", err)
	}
	if err := apply(t, plant(t, minimal), "", c); err == nil || !strings.Contains(err.Error(), "is the package ca-certificates in the image?") {
		t.Errorf("no store: %v", err)
	}
}
