package packages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/lock"
)

const (
	// maxInRelease bounds an InRelease file; Debian's has about 150 KiB.
	maxInRelease = 8 << 20
	// releaseDate is the layout of Date and Valid-Until in Release files
	// (https://wiki.debian.org/DebianRepository/Format).
	releaseDate = "Mon, 02 Jan 2006 15:04:05 MST"
	// signedMessage begins a clear-signed message (RFC 9580 section 7). What
	// stands before it is not signed, and apt would be given it, too.
	signedMessage = "-----BEGIN PGP SIGNED MESSAGE-----"
	// maxSkew is by how much a Release file's Date may be ahead of this
	// machine's clock.
	maxSkew = 10 * time.Minute
)

// suite is one suite of an archive whose signature holds.
type suite struct {
	archive distro.Archive
	locked  lock.Archive
	// inRelease is the signed file as it was fetched.
	inRelease []byte
	// digests maps a path below dists/SUITE to its SHA-256 (hex) and size.
	digests map[string]fetch.File
}

// fetchSuite fetches a suite's InRelease file and checks its signature against
// keyring and its validity against now.
func fetchSuite(ctx context.Context, cache *fetch.Cache, archive distro.Archive, keyring openpgp.EntityList, now time.Time) (*suite, error) {
	url := archive.URL + "/dists/" + archive.Suite + "/InRelease"
	data, err := cache.Get(ctx, url, maxInRelease)
	if err != nil {
		return nil, err
	}
	s, err := verifyRelease(data, archive, keyring, now)
	if err != nil {
		return nil, fault.New(fault.Unverifiable, "use another mirror, or add the key that signs this archive", "%s: %w", url, err)
	}
	return s, nil
}

func verifyRelease(data []byte, archive distro.Archive, keyring openpgp.EntityList, now time.Time) (*suite, error) {
	block, rest := clearsign.Decode(data)
	if block == nil || !bytes.HasPrefix(data, []byte(signedMessage)) {
		return nil, errors.New("it is not a clear-signed message")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("something follows the signed message")
	}
	signer, err := openpgp.CheckDetachedSignature(keyring, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body,
		&packet.Config{Time: func() time.Time { return now }})
	if err != nil {
		return nil, fmt.Errorf("its signature does not hold: %w", err)
	}
	sum := sha256.Sum256(data)
	s := &suite{
		archive: archive, inRelease: data, digests: map[string]fetch.File{},
		locked: lock.Archive{
			URL: archive.URL, Suite: archive.Suite, Release: hex.EncodeToString(sum[:]),
			SignedBy: strings.ToUpper(hex.EncodeToString(signer.PrimaryKey.Fingerprint)),
		},
	}
	var stanza deb.Stanza
	if err := deb.Stanzas(bytes.NewReader(block.Plaintext), func(first deb.Stanza) (bool, error) {
		stanza = first
		return false, nil
	}); err != nil {
		return nil, err
	}
	if stanza["Codename"] != archive.Suite && stanza["Suite"] != archive.Suite {
		return nil, fmt.Errorf("it is for codename %q, not for %q", stanza["Codename"], archive.Suite)
	}
	if s.locked.Date, err = time.Parse(releaseDate, stanza["Date"]); err != nil {
		return nil, fmt.Errorf("its Date: %w", err)
	}
	s.locked.Date = s.locked.Date.UTC()
	if s.locked.Date.After(now.Add(maxSkew)) {
		return nil, fmt.Errorf("its Date, %s, is still to come: set this machine's clock", stanza["Date"])
	}
	if until := stanza["Valid-Until"]; until != "" {
		end, err := time.Parse(releaseDate, until)
		if err != nil {
			return nil, fmt.Errorf("its Valid-Until: %w", err)
		}
		if now.After(end) {
			return nil, fmt.Errorf("it expired on %s: the mirror is out of date or replays an old state", until)
		}
	}
	return s, s.readDigests(stanza["SHA256"])
}

// readDigests reads the SHA256 field: digest, size and path on each line.
func (s *suite) readDigests(field string) error {
	for line := range strings.SplitSeq(field, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 3 {
			return fmt.Errorf("SHA256 line %q is not digest, size and path", line)
		}
		if sum, err := hex.DecodeString(words[0]); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("SHA256 line %q is not digest, size and path", line)
		}
		size, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("SHA256 line %q has no valid size", line)
		}
		s.digests[words[2]] = fetch.File{SHA256: words[0], Size: size}
	}
	return nil
}

// index returns the path of the suite's uncompressed Packages file for one
// component and architecture, in the cache under its own digest.
func (s *suite) index(ctx context.Context, cache *fetch.Cache, component, architecture string) (string, error) {
	name := component + "/binary-" + architecture + "/Packages"
	plain, ok := s.digests[name]
	if !ok {
		return "", fault.New(fault.Unverifiable, "", "%s %s has no %s", s.archive.URL, s.archive.Suite, name)
	}
	path := cache.Path(plain.SHA256)
	if info, err := os.Stat(path); err == nil && info.Size() == plain.Size {
		return path, nil
	}
	for _, suffix := range []string{".gz", ".xz"} {
		packed, ok := s.digests[name+suffix]
		if !ok {
			continue
		}
		// By digest, so that an archive that changes meanwhile still serves it
		// (Acquire-By-Hash).
		packed.URL = fmt.Sprintf("%s/dists/%s/%s/binary-%s/by-hash/SHA256/%s", s.archive.URL, s.archive.Suite, component, architecture, packed.SHA256)
		from, err := cache.Fetch(ctx, packed)
		if err != nil {
			return "", err
		}
		return path, unpackIndex(ctx, from, suffix, plain, path)
	}
	return "", fault.New(fault.Unverifiable, "", "%s %s: %s is offered in no compression that nodesmith reads (gz, xz)", s.archive.URL, s.archive.Suite, name)
}

// unpackIndex decompresses from into path and checks it against want.
func unpackIndex(ctx context.Context, from, suffix string, want fetch.File, path string) error {
	packed, err := os.Open(from)
	if err != nil {
		return err
	}
	defer packed.Close()
	var plain io.ReadCloser
	if suffix == ".gz" {
		plain, err = gzip.NewReader(packed)
	} else {
		plain, err = deb.Xz(ctx, packed)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	defer plain.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	pending, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = pending.Cleanup() }() // does nothing once the file has its name
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(pending, hash), io.LimitReader(plain, want.Size+1))
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("unpacking %s: %w", from, err))
	}
	if hex.EncodeToString(hash.Sum(nil)) != want.SHA256 {
		return fault.New(fault.Unverifiable, "", "package index: %d bytes unpacked from %s do not have the SHA-256 %s that the signed Release names", n, from, want.SHA256)
	}
	return pending.CloseAtomicallyReplace()
}
