package packages

import (
	_ "embed"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/distro/known"
)

// securityRelease is what Debian signed on 2026-11-21 for the security updates
// of 12: with the key of its predecessor, which we do not have, and its own.
//
//go:embed testdata/bookworm-security.InRelease
var securityRelease []byte

func TestDebiansOwnSignatureHolds(t *testing.T) {
	release, ok := known.Release("debian", "12", "amd64")
	if !ok {
		t.Fatal("Debian 12 is not known")
	}
	archive, other := release.Archives[2], release.Archives[0]
	archive.Keyring, other.Keyring = release.Keyring, release.Keyring
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	s, err := verifyRelease(securityRelease, archive, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0"; s.locked.SignedBy != want {
		t.Errorf("signed by %s, want %s", s.locked.SignedBy, want)
	}
	if want := time.Date(2026, 11, 21, 0, 53, 2, 0, time.UTC); !s.locked.Date.Equal(want) {
		t.Errorf("of %v, want %v", s.locked.Date, want)
	}
	for _, name := range []string{"main/binary-amd64/Packages", "main/binary-amd64/Packages.xz"} {
		if s.digests[name].Size == 0 {
			t.Errorf("no digest of %s", name)
		}
	}
	if _, err := verifyRelease(securityRelease, archive, now.AddDate(0, 0, 7)); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("a week later: error %v", err)
	}
	if _, err := verifyRelease(securityRelease, other, now); err == nil || !strings.Contains(err.Error(), "bookworm-security") {
		t.Errorf("in the place of another suite: error %v", err)
	}
}
