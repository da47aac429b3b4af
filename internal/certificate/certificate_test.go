package certificate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// example has spaces, capitals, an umlaut and a set of two attributes in its
// subject. Its private key was thrown away.
func example(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/example.pem")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseNamesACertificateAsOpenSSLDoes(t *testing.T) {
	text := example(t)
	ca, err := Parse(append([]byte("Example Root CA\n"), text...))
	if err != nil {
		t.Fatal(err)
	}
	const want = "34ee7f32" // openssl x509 -noout -subject_hash
	if ca.SubjectHash != want || ca.PEM != string(text) {
		t.Errorf("got %s and\n%s\nwant %s and\n%s", ca.SubjectHash, ca.PEM, want, text)
	}
}

func TestParseRefuses(t *testing.T) {
	text := string(example(t))
	for name, test := range map[string]struct{ text, want string }{
		"nothing":          {"", "holds no PEM block"},
		"two certificates": {text + text, "a second block, a CERTIFICATE"},
		"a key":            {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds a PRIVATE KEY"},
		"a key behind it":  {text + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a second block, a PRIVATE KEY"},
		"something else":   {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"},
	} {
		if _, err := Parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v does not say %q", name, err, test.want)
		}
	}
}

// All that a machine trusts, judged by OpenSSL: real subjects of three decades.
func TestSubjectHashOfRealCertificates(t *testing.T) {
	testenv.Need(t, "openssl")
	paths, err := filepath.Glob("/usr/share/ca-certificates/mozilla/*.crt")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		testenv.Lacks(t, "the package ca-certificates")
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := Parse(text)
		if err != nil {
			continue // Go refuses what a few old ones have, a negative serial number
		}
		out, err := exec.CommandContext(t.Context(), "openssl", "x509", "-in", path, "-noout", "-subject_hash").Output()
		if err != nil || strings.TrimSpace(string(out)) != ca.SubjectHash {
			t.Errorf("%s: %s, openssl says %s (%v)", path, ca.SubjectHash, out, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/example.pem")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		ca, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse([]byte(ca.PEM))
		if err != nil || again != ca || len(ca.SubjectHash) != 8 {
			t.Errorf("%+v is not %+v (%v)", again, ca, err)
		}
	})
}
