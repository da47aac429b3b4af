package keyring

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func newKey(t *testing.T, name string) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// armored is one block of what write writes.
func armored(t *testing.T, blockType string, write func(*bytes.Buffer) error) string {
	t.Helper()
	var body, text bytes.Buffer
	if err := write(&body); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&text, blockType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String() + "\n"
}

func public(t *testing.T, keys ...*openpgp.Entity) string {
	t.Helper()
	return armored(t, openpgp.PublicKeyType, func(b *bytes.Buffer) error {
		for _, key := range keys {
			if err := key.Serialize(b); err != nil {
				return err
			}
		}
		return nil
	})
}

func private(t *testing.T, blockType string, key *openpgp.Entity) string {
	t.Helper()
	return armored(t, blockType, func(b *bytes.Buffer) error { return key.SerializePrivate(b, nil) })
}

func TestKeysOfEveryBlockEndUpInOne(t *testing.T) {
	one, two := newKey(t, "one"), newKey(t, "two")
	for name, text := range map[string]string{
		"one block":                  public(t, one, two),
		"two blocks":                 public(t, one) + public(t, two),
		"comments around the blocks": "The archive's keys:\n\n" + public(t, one) + "\nand\n" + public(t, two) + "end\n",
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse(ring.Armored)
			if err != nil {
				t.Fatal(err)
			}
			if len(ring.Keys) != 2 || !slices.Equal(again.Fingerprints(), ring.Fingerprints()) || !bytes.Equal(again.Armored, ring.Armored) {
				t.Errorf("%d keys, %q, then %q", len(ring.Keys), ring.Fingerprints(), again.Fingerprints())
			}
			if n := strings.Count(string(ring.Armored), begin); n != 1 {
				t.Errorf("%d blocks", n)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	key := newKey(t, "one")
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                   {"", "holds no public key"},
		"text":                      {"no key\n", "holds no public key"},
		"half a key":                {public(t, key)[:150], "is not ASCII-armored"},
		"a private key":             {private(t, openpgp.PrivateKeyType, key), "holds a PGP PRIVATE KEY BLOCK"},
		"a private key as a public": {private(t, openpgp.PublicKeyType, key), "holds a private key"},
		"one behind a public key":   {public(t, key) + private(t, openpgp.PrivateKeyType, key), "holds a PGP PRIVATE KEY BLOCK"},
		"a message":                 {armored(t, "PGP MESSAGE", func(b *bytes.Buffer) error { return key.Serialize(b) }), "holds a PGP MESSAGE"},
		"no packets":                {armored(t, openpgp.PublicKeyType, func(b *bytes.Buffer) error { _, err := b.WriteString("key"); return err }), "holds no public key"},
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d keys, error %v, want one with %q", len(ring.Keys), err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Add([]byte(begin + begin))
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(ring.Armored); err != nil || len(again.Keys) != len(ring.Keys) {
			t.Errorf("%d keys became %d: %v", len(ring.Keys), len(again.Keys), err)
		}
	})
}
