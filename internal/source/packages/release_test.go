package packages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
)

// today is when the test's archives are read; they were signed the day before.
var (
	today     = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	yesterday = today.Add(-24 * time.Hour)
	bookworm  = distro.Archive{URL: "http://publisher.invalid/debian", Suite: "bookworm", Components: []string{"main"}}
)

// config is that of a signer yesterday, with a small and fast key.
func config(lifetime time.Duration) *packet.Config {
	return &packet.Config{
		Time: func() time.Time { return yesterday }, Algorithm: packet.PubKeyAlgoEdDSA,
		KeyLifetimeSecs: uint32(lifetime / time.Second),
	}
}

func newKey(t *testing.T, name string, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.org", config(lifetime))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign clear-signs a text with keys.
func sign(t *testing.T, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var signed bytes.Buffer
	var private []*packet.PrivateKey
	for _, key := range keys {
		private = append(private, key.PrivateKey)
	}
	w, err := clearsign.EncodeMulti(&signed, private, config(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(signed.Bytes(), '\n')
}

func digestOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// releaseText is a Release file with the fields replaced that are given as name, value.
func releaseText(fields ...string) string {
	values := map[string]string{
		"Origin": "Debian", "Suite": "oldstable", "Codename": "bookworm",
		"Date":        "Sun, 01 Mar 2026 09:00:00 UTC",
		"Valid-Until": "Sun, 08 Mar 2026 09:00:00 UTC", "Acquire-By-Hash": "yes",
		"MD5Sum": "\n d41d8cd98f00b204e9800998ecf8427e 0 main/binary-amd64/Packages",
		"SHA256": "\n " + digestOf("plain") + "        5 main/binary-amd64/Packages\n " + digestOf("packed") + "  6 main/binary-amd64/Packages.gz",
	}
	for i := 0; i < len(fields); i += 2 {
		values[fields[i]] = fields[i+1]
	}
	var text strings.Builder
	for _, name := range []string{"Origin", "Suite", "Codename", "Date", "Valid-Until", "Acquire-By-Hash", "Architectures", "MD5Sum", "SHA256"} {
		if value := values[name]; value != "" {
			fmt.Fprintf(&text, "%s: %s\n", name, value)
		}
	}
	return text.String()
}

func TestVerifyReleaseTakesWhatItsKeySigned(t *testing.T) {
	key, other := newKey(t, "archive", 0), newKey(t, "other", 0)
	tests := map[string][]byte{
		"one signature":                 sign(t, releaseText(), key),
		"an unknown key beside ours":    sign(t, releaseText(), other, key),
		"no Valid-Until, as Debian":     sign(t, releaseText("Valid-Until", ""), key),
		"the suite instead of codename": sign(t, releaseText("Suite", "bookworm", "Codename", "x"), key),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := verifyRelease(data, signedBy(t, bookworm, key), today)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint)); s.locked.SignedBy != want {
				t.Errorf("signed by %s, want %s", s.locked.SignedBy, want)
			}
			if want := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC); !s.locked.Date.Equal(want) {
				t.Errorf("of %v, want %v", s.locked.Date, want)
			}
			if s.locked.Release != digestOf(string(data)) || s.locked.URL != bookworm.URL || s.locked.Suite != "bookworm" {
				t.Errorf("locked %+v", s.locked)
			}
			want := map[string]fetch.File{
				"main/binary-amd64/Packages":    {SHA256: digestOf("plain"), Size: 5},
				"main/binary-amd64/Packages.gz": {SHA256: digestOf("packed"), Size: 6},
			}
			if len(s.digests) != 2 || s.digests["main/binary-amd64/Packages"] != want["main/binary-amd64/Packages"] ||
				s.digests["main/binary-amd64/Packages.gz"] != want["main/binary-amd64/Packages.gz"] {
				t.Errorf("digests %v, want %v", s.digests, want)
			}
		})
	}
}

func TestVerifyReleaseRefuses(t *testing.T) {
	key, other, brief := newKey(t, "archive", 0), newKey(t, "other", 0), newKey(t, "brief", time.Hour)
	good := string(sign(t, releaseText(), key))
	unsigned, _, _ := strings.Cut(good, "-----BEGIN PGP SIGNATURE")
	signed := func(fields ...string) string { return string(sign(t, releaseText(fields...), key)) }
	tests := map[string]struct{ data, want string }{
		"an unsigned file":           {releaseText(), "not a clear-signed message"},
		"nothing":                    {"", "not a clear-signed message"},
		"an unknown key":             {string(sign(t, releaseText(), other)), "signature does not hold"},
		"an expired key":             {string(sign(t, releaseText(), brief)), "expired"},
		"an altered text":            {strings.Replace(good, "Codename: bookworm", "Codename: bookw0rm", 1), "signature does not hold"},
		"an altered digest":          {strings.Replace(good, digestOf("plain"), digestOf("evil"), 1), "signature does not hold"},
		"a line more":                {strings.Replace(good, "\n-----BEGIN PGP SIGNATURE", "\nX: y\n-----BEGIN PGP SIGNATURE", 1), "signature does not hold"},
		"a signature cut out":        {unsigned, "not a clear-signed message"},
		"something in front":         {"Codename: evil\n\n" + good, "not a clear-signed message"},
		"something behind":           {good + "Codename: evil\n", "follows the signed message"},
		"two messages":               {good + good, "follows the signed message"},
		"another release":            {signed("Codename", "trixie", "Suite", "stable"), `codename "trixie", not for "bookworm"`},
		"no codename":                {signed("Codename", "", "Suite", ""), `not for "bookworm"`},
		"an old state":               {signed("Valid-Until", "Mon, 02 Mar 2026 11:59:59 UTC"), "expired on"},
		"a Valid-Until that is none": {signed("Valid-Until", "soon"), "its Valid-Until"},
		"no date":                    {signed("Date", ""), "its Date"},
		"a date that is none":        {signed("Date", "2026-03-01"), "its Date"},
		"a date to come":             {signed("Date", "Tue, 03 Mar 2026 09:00:00 UTC"), "still to come"},
		"a digest line of two words": {signed("SHA256", "\n "+digestOf("x")+" 12"), "is not digest, size and path"},
		"a digest line of four":      {signed("SHA256", "\n "+digestOf("x")+" 12 a b"), "is not digest, size and path"},
		"a short digest":             {signed("SHA256", "\n abcd 12 main/x"), "is not digest, size and path"},
		"a digest that is a path":    {signed("SHA256", "\n "+strings.Repeat("../", 21)+"x 12 main/x"), "is not digest, size and path"},
		"a negative size":            {signed("SHA256", "\n "+digestOf("x")+" -1 main/x"), "no valid size"},
		"a size that is text":        {signed("SHA256", "\n "+digestOf("x")+" big main/x"), "no valid size"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := verifyRelease([]byte(test.data), signedBy(t, bookworm, key, brief), today)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// armored returns public keys as a keyring file: one block for each.
func armored(t *testing.T, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var text bytes.Buffer
	for _, key := range keys {
		w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := key.Serialize(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text.WriteByte('\n')
	}
	return text.Bytes()
}

// signedBy is the archive with these keys as its keyring.
func signedBy(t *testing.T, archive distro.Archive, keys ...*openpgp.Entity) distro.Archive {
	t.Helper()
	archive.Keyring = armored(t, keys...)
	return archive
}

func TestUnpackIndexChecksWhatItUnpacks(t *testing.T) {
	const text = "Package: a\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	tests := map[string]struct {
		packed []byte
		want   fetch.File
		fails  string
	}{
		"what the Release names": {packed.Bytes(), fetch.File{SHA256: digestOf(text), Size: int64(len(text))}, ""},
		"other content":          {packed.Bytes(), fetch.File{SHA256: digestOf("other"), Size: int64(len(text))}, "do not have the SHA-256"},
		"more of it":             {packed.Bytes(), fetch.File{SHA256: digestOf(text[:4]), Size: 4}, "5 bytes unpacked"},
		"a broken stream":        {packed.Bytes()[:packed.Len()-4], fetch.File{SHA256: digestOf(text), Size: int64(len(text))}, "unpacking"},
		"no gzip":                {[]byte("Package: a\n and more"), fetch.File{SHA256: digestOf(text), Size: int64(len(text))}, "gzip"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "packed"), filepath.Join(dir, "cache", "plain")
			if err := os.WriteFile(from, test.packed, 0o644); err != nil {
				t.Fatal(err)
			}
			err := unpackIndex(context.Background(), from, ".gz", test.want, to)
			if test.fails == "" {
				if data, rerr := os.ReadFile(to); err != nil || rerr != nil || string(data) != text {
					t.Errorf("unpacked %q: %v, %v", data, err, rerr)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error %v, want one with %q", err, test.fails)
			}
			if strings.Contains(test.fails, "bytes") && fault.KindOf(err) != fault.Unverifiable {
				t.Errorf("a %v error, want an unverifiable input", fault.KindOf(err))
			}
			if left, _ := os.ReadDir(filepath.Dir(to)); len(left) > 0 {
				t.Errorf("left in the cache: %v", left)
			}
		})
	}
}

// The time that the caller gives decides, not this machine's clock.
func TestAKeyIsValidUntilItExpires(t *testing.T) {
	key := newKey(t, "brief", time.Hour)
	data := sign(t, releaseText(), key)
	for after, valid := range map[time.Duration]bool{30 * time.Minute: true, 2 * time.Hour: false} {
		_, err := verifyRelease(data, signedBy(t, bookworm, key), yesterday.Add(after))
		if valid != (err == nil) {
			t.Errorf("%s after it was made: error %v", after, err)
		}
	}
}
