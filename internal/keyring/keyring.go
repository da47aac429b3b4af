// Package keyring reads the public keys that sign package archives.
//
// What comes in is ASCII-armored text, one block or several in a row; what goes
// out are the keys and one block that holds them all, as programs want it that
// read no further than the first. Deterministic; no key is added or left out.
package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// begin starts every armored block (RFC 9580 section 6.2).
const begin = "-----BEGIN PGP "

// Keyring is a set of OpenPGP public keys.
type Keyring struct {
	Keys openpgp.EntityList
	// Armored holds all keys in one ASCII-armored block.
	Armored []byte
}

// Parse reads text that holds public keys and nothing else that is armored. Its
// errors repeat nothing of the text: it may be a private key.
func Parse(text []byte) (Keyring, error) {
	var packets bytes.Buffer
	for _, block := range blocks(text) {
		decoded, err := armor.Decode(bytes.NewReader(block))
		if err != nil {
			return Keyring{}, fmt.Errorf("is not ASCII-armored OpenPGP: %w", err)
		}
		if decoded.Type != openpgp.PublicKeyType {
			return Keyring{}, fmt.Errorf("holds a %s", decoded.Type)
		}
		if _, err := io.Copy(&packets, decoded.Body); err != nil {
			return Keyring{}, fmt.Errorf("is not ASCII-armored OpenPGP: %w", err)
		}
	}
	if packets.Len() == 0 {
		return Keyring{}, errors.New("holds no public key: " + begin + "PUBLIC KEY BLOCK-----")
	}
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(packets.Bytes()))
	if err != nil {
		return Keyring{}, fmt.Errorf("holds no public key: %w", err)
	}
	for _, key := range keys {
		if key.PrivateKey != nil {
			return Keyring{}, errors.New("holds a private key")
		}
	}
	var armored bytes.Buffer
	w, err := armor.Encode(&armored, openpgp.PublicKeyType, nil)
	if err == nil {
		_, err = w.Write(packets.Bytes())
		err = errors.Join(err, w.Close())
	}
	return Keyring{Keys: keys, Armored: append(armored.Bytes(), '\n')}, err
}

// blocks cuts text where an armored block begins; what stands before the first
// is a comment.
func blocks(text []byte) [][]byte {
	var cut [][]byte
	for {
		start := bytes.Index(text, []byte(begin))
		if start < 0 {
			return cut
		}
		text = text[start:]
		end := len(text)
		if next := bytes.Index(text[len(begin):], []byte(begin)); next >= 0 {
			end = len(begin) + next
		}
		cut = append(cut, text[:end])
		text = text[end:]
	}
}

// Fingerprints returns those of the primary keys, in capitals, sorted.
func (k Keyring) Fingerprints() []string {
	var all []string
	for _, key := range k.Keys {
		all = append(all, strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint)))
	}
	slices.Sort(all)
	return all
}
