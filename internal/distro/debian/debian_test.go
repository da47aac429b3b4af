package debian

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
)

var _ distro.Family = Family{}

// signers are the ids of the keys that sign a release, its security archive and
// its point releases (https://ftp-master.debian.org/keys.html).
var signers = map[string][]string{
	"bookworm": {"6ED0E7B82643E131", "BDE6D2B9216EC7A8", "F8D2585B8783D481"},
	"trixie":   {"78DBA3BC47EF2265", "8E9F831205B4BA95", "762F67A0B2C39DE4"},
}

func TestEveryKeyringHasItsReleasesKeys(t *testing.T) {
	const begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	for _, r := range (Family{}).Releases() {
		var ids []string
		for block := range strings.SplitSeq(string(r.Keyring), begin) {
			if strings.TrimSpace(block) == "" {
				continue
			}
			keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(begin + block))
			if err != nil {
				t.Fatalf("%s: %v", r.Codename, err)
			}
			for _, key := range keys {
				if key.PrivateKey != nil {
					t.Errorf("%s: %s has a private key", r.Codename, key.PrimaryKey.KeyIdString())
				}
				ids = append(ids, key.PrimaryKey.KeyIdString())
				for _, subkey := range key.Subkeys { // these sign; the primary key is kept offline
					ids = append(ids, subkey.PublicKey.KeyIdString())
				}
			}
		}
		for _, want := range signers[r.Codename] {
			if !slices.Contains(ids, want) {
				t.Errorf("%s: keyring has %q, not %s", r.Codename, ids, want)
			}
		}
	}
}

func TestEveryReleaseIsComplete(t *testing.T) {
	for _, r := range (Family{}).Releases() {
		t.Run(r.Codename, func(t *testing.T) {
			if signers[r.Codename] == nil {
				t.Error("this test does not know its signers")
			}
			var suites []string
			for _, a := range r.Archives {
				suites = append(suites, a.Suite)
				if strings.HasSuffix(a.URL, "/") || !strings.HasPrefix(a.URL, "http") || len(a.Components) == 0 {
					t.Errorf("archive %+v", a)
				}
			}
			if want := []string{r.Codename, r.Codename + "-updates", r.Codename + "-security"}; !slices.Equal(suites, want) {
				t.Errorf("suites %q, want %q", suites, want)
			}
			for name, file := range map[string]string{"shim": r.Boot.Shim, "GRUB": r.Boot.GRUB, "MokManager": r.Boot.MokManager} {
				if !path.IsAbs(file) || path.Clean(file) != file || !strings.HasSuffix(file, ".efi.signed") {
					t.Errorf("%s is at %q, which is no signed EFI binary", name, file)
				}
			}
			for _, s := range distro.SoftwareNames() {
				if len(r.Software[s]) == 0 {
					t.Errorf("no packages for the %s", s)
				}
			}
			if r.Boot.Vendor == "" {
				t.Error("no vendor directory")
			}
			for name, list := range map[string][]string{
				"packages": r.Packages, "tools": r.Tools, "image base": r.ImageBase, "first": r.First, "unpacker": r.Unpacker,
				"excluded": r.Exclude, "included": r.Include, "of the host": r.Host, "empty": r.Empty, "ext4 features": r.Ext4Features,
			} {
				if len(list) == 0 {
					t.Errorf("%s: nothing", name)
				}
				sorted := slices.Sorted(slices.Values(list))
				if len(slices.Compact(sorted)) != len(list) {
					t.Errorf("%s: something twice in %q", name, list)
				}
			}
			for _, pattern := range slices.Concat(r.Exclude, r.Include, r.Host, r.Empty) {
				if _, err := path.Match(pattern, ""); err != nil || !path.IsAbs(pattern) || path.Clean(pattern) != pattern {
					t.Errorf("pattern %q: %v", pattern, err)
				}
			}
			for link, target := range r.Links {
				if path.IsAbs(link) || path.IsAbs(target) || strings.Contains(target, "..") {
					t.Errorf("link %s -> %s leaves the tree", link, target)
				}
			}
		})
	}
}

func TestLicencesStayAndManualsGo(t *testing.T) {
	// As dpkg does it: the last filter that matches decides, and includes come last;
	// a star matches slashes, too.
	kept := func(r distro.Release, file string) bool {
		matches := func(patterns []string) bool {
			return slices.ContainsFunc(patterns, func(p string) bool {
				parts := strings.Split(p, "*")
				rest, ok := strings.CutPrefix(file, parts[0])
				for _, part := range parts[1:] {
					i := strings.LastIndex(rest, part)
					ok = ok && i >= 0
					rest = rest[max(i, 0)+len(part)*min(1, max(i+1, 0)):]
				}
				return ok && rest == ""
			})
		}
		return !matches(r.Exclude) || matches(r.Include)
	}
	for _, r := range (Family{}).Releases() {
		for file, want := range map[string]bool{
			"/usr/share/doc/bash/copyright":            true,
			"/usr/share/doc/bash/changelog.gz":         false,
			"/usr/share/doc/bash/examples/a/b":         false,
			"/usr/share/man/man1/bash.1.gz":            false,
			"/usr/share/locale/de/LC_MESSAGES/bash.mo": false,
			"/usr/share/locale/locale.alias":           true,
			"/usr/bin/bash":                            true,
			"/usr/share/zoneinfo/UTC":                  true,
		} {
			if got := kept(r, file); got != want {
				t.Errorf("%s: %s stays: %v, want %v", r.Codename, file, got, want)
			}
		}
	}
}

func TestTheNodesOwnSourcesAreThoseOfTheRelease(t *testing.T) {
	for _, r := range (Family{}).Releases() {
		var got []string
		err := deb.Stanzas(bytes.NewReader(r.Sources), func(s deb.Stanza) (bool, error) {
			got = append(got, s["Types"]+" "+s["URIs"]+" "+s["Suites"]+" "+s["Components"])
			if s["Signed-By"] == "" {
				t.Errorf("%s: %s is signed by no key in particular", r.Codename, s["Suites"])
			}
			return true, nil
		})
		if err != nil {
			t.Fatalf("%s: %v", r.Codename, err)
		}
		var want []string
		for _, a := range r.Archives {
			want = append(want, "deb "+a.URL+" "+a.Suite+" "+strings.Join(a.Components, " "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: sources %q, want %q", r.Codename, got, want)
		}
	}
}
