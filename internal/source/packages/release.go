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
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/keyring"
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
	// name and release are the Release file as it was fetched.
	name    string
	release []byte
	// byHash says that indices have names by their digest, too, so that an
	// archive that changes meanwhile still serves them (Acquire-By-Hash).
	byHash bool
	// allApart says that packages for all architectures may have an index of
	// their own: the suite has the architecture all, and does not say
	// No-Support-for-Architecture-all.
	allApart bool
	// digests maps a path below the archive's Dir to its SHA-256 (hex) and size.
	digests map[string]fetch.File
}

// fetchSuite fetches a suite's InRelease file and checks its signature against
// the archive's keyring and its validity against now. That of an unsigned
// archive is called Release.
func fetchSuite(ctx context.Context, cache *fetch.Cache, archive distro.Archive, now time.Time) (*suite, error) {
	name := "InRelease"
	if archive.Unsigned {
		name = "Release"
	}
	url := archive.URL + path.Join("/", archive.Dir(), name)
	data, err := cache.Get(ctx, url, maxInRelease)
	if err != nil {
		return nil, err
	}
	s, err := verifyRelease(data, archive, now)
	if err != nil {
		return nil, fault.New(fault.Unverifiable, "use another mirror, or add the key that signs this archive", "%s: %w", url, err)
	}
	s.name = name
	return s, nil
}

// verifyRelease verifies a Release file and reads what it says.
func verifyRelease(data []byte, archive distro.Archive, now time.Time) (*suite, error) {
	sum := sha256.Sum256(data)
	s := &suite{
		archive: archive, release: data, digests: map[string]fetch.File{},
		locked: lock.Archive{URL: archive.URL, Suite: archive.Suite, Release: hex.EncodeToString(sum[:])},
	}
	plain := data
	if !archive.Unsigned {
		var err error
		if plain, s.locked.SignedBy, err = verify(data, archive.Keyring, now); err != nil {
			return nil, err
		}
	}
	var stanza deb.Stanza
	if err := deb.Stanzas(bytes.NewReader(plain), func(first deb.Stanza) (bool, error) {
		stanza = first
		return false, nil
	}); err != nil {
		return nil, err
	}
	if !archive.Flat() && stanza["Codename"] != archive.Suite && stanza["Suite"] != archive.Suite {
		return nil, fmt.Errorf("it is for codename %q, not for %q", stanza["Codename"], archive.Suite)
	}
	if err := s.readDates(stanza, now); err != nil {
		return nil, err
	}
	s.byHash = stanza["Acquire-By-Hash"] == "yes"
	s.allApart = slices.Contains(strings.Fields(stanza["Architectures"]), "all") &&
		stanza["No-Support-for-Architecture-all"] != "Packages"
	return s, s.readDigests(stanza["SHA256"])
}

// verify returns the text of a clear-signed message and the fingerprint of the
// key that signed it.
func verify(data, armored []byte, now time.Time) (text []byte, signer string, err error) {
	keys, err := keyring.Parse(armored)
	if err != nil {
		return nil, "", fmt.Errorf("the keyring %w", err)
	}
	block, rest := clearsign.Decode(data)
	if block == nil || !bytes.HasPrefix(data, []byte(signedMessage)) {
		return nil, "", errors.New("it is not a clear-signed message")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", errors.New("something follows the signed message")
	}
	key, err := openpgp.CheckDetachedSignature(keys.Keys, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body,
		&packet.Config{Time: func() time.Time { return now }})
	if err != nil {
		return nil, "", fmt.Errorf("its signature does not hold: %w", err)
	}
	return block.Plaintext, strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint)), nil
}

// readDates reads Date and Valid-Until and holds them against now.
func (s *suite) readDates(stanza deb.Stanza, now time.Time) error {
	date, err := time.Parse(releaseDate, stanza["Date"])
	if err != nil {
		return fmt.Errorf("its Date: %w", err)
	}
	s.locked.Date = date.UTC()
	if date.After(now.Add(maxSkew)) {
		return fmt.Errorf("its Date, %s, is still to come: set this machine's clock", stanza["Date"])
	}
	until := stanza["Valid-Until"]
	if until == "" {
		return nil
	}
	end, err := time.Parse(releaseDate, until)
	if err != nil {
		return fmt.Errorf("its Valid-Until: %w", err)
	}
	if now.After(end) {
		return fmt.Errorf("it expired on %s: the mirror is out of date or replays an old state", until)
	}
	return nil
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

// indices returns the paths, below the archive's Dir, of the suite's package
// indices. Packages for all architectures may have indices of their own.
func (s *suite) indices(architecture string) ([]string, error) {
	if s.archive.Flat() {
		return []string{"Packages"}, nil
	}
	var names []string
	for _, component := range s.archive.Components {
		name := component + "/binary-" + architecture + "/Packages"
		if _, ok := s.digests[name]; !ok {
			return nil, fault.New(fault.Unverifiable, "", "%s %s has no %s", s.archive.URL, s.archive.Suite, name)
		}
		names = append(names, name)
		forAll := component + "/binary-all/Packages"
		if _, ok := s.digests[forAll]; ok && s.allApart {
			names = append(names, forAll)
		}
	}
	return names, nil
}

// index returns the path of the suite's uncompressed Packages file of that
// name, in the cache under its own digest.
func (s *suite) index(ctx context.Context, cache *fetch.Cache, name string) (string, error) {
	plain, ok := s.digests[name]
	if !ok {
		return "", fault.New(fault.Unverifiable, "", "%s %s has no %s", s.archive.URL, s.archive.Suite, name)
	}
	file := cache.Path(plain.SHA256)
	if cache.Holds(plain) {
		return file, nil
	}
	packed, suffix := plain, ""
	for _, compression := range []string{".gz", ".xz"} {
		if smaller, ok := s.digests[name+compression]; ok {
			packed, suffix = smaller, compression
			break
		}
	}
	packed.URL = s.archive.URL + path.Join("/", s.archive.Dir(), name+suffix)
	if s.byHash {
		packed.URL = s.archive.URL + path.Join("/", s.archive.Dir(), path.Dir(name), "by-hash/SHA256", packed.SHA256)
	}
	from, err := cache.Fetch(ctx, packed)
	if err != nil || suffix == "" {
		return from, err
	}
	return file, unpackIndex(ctx, from, suffix, plain, file)
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
	pending, err := atomicfile.New(path, "", 0o644)
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
