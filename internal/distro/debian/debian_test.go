package debian

import (
	"path"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/keyring"
)

var _ distro.Family = Family{}

// signers are the ids of the keys that sign a release, its security archive and
// its point releases (https://ftp-master.debian.org/keys.html,
// https://wiki.ubuntu.com/SecurityTeam/FAQ#GPG_Keys_used_by_Ubuntu).
var signers = map[string][]string{
	"focal":    {"3B4FE6ACC0B21F32", "871920D1991BC93C"},
	"jammy":    {"3B4FE6ACC0B21F32", "871920D1991BC93C"},
	"noble":    {"3B4FE6ACC0B21F32", "871920D1991BC93C"},
	"bookworm": {"6ED0E7B82643E131", "BDE6D2B9216EC7A8", "F8D2585B8783D481"},
	"trixie":   {"78DBA3BC47EF2265", "8E9F831205B4BA95", "762F67A0B2C39DE4"},
}

func TestEveryKeyringHasItsReleasesKeys(t *testing.T) {
	for _, r := range (Family{}).Releases() {
		ring, err := keyring.Parse(r.Keyring)
		if err != nil {
			t.Fatalf("%s: the keyring %v", r.Codename, err)
		}
		var ids []string
		for _, key := range ring.Keys {
			ids = append(ids, key.PrimaryKey.KeyIdString())
			for _, subkey := range key.Subkeys { // these sign for Debian; its primary keys are kept offline
				ids = append(ids, subkey.PublicKey.KeyIdString())
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
				if !path.IsAbs(file) || path.Clean(file) != file || !strings.Contains(path.Base(file), "x64.efi") {
					t.Errorf("%s is at %q, which is no EFI binary", name, file)
				}
			}
			for _, s := range distro.SoftwareNames() {
				if packages, known := r.Software[s]; !known || len(packages) == 0 && r.Distro == "debian" {
					t.Errorf("no packages for the %s", s)
				}
			}
			for name, value := range map[string]string{
				"vendor directory": r.Boot.Vendor, "link to the kernel": r.Boot.Kernel, "link to the initramfs": r.Boot.Initrd,
				"time daemon": r.TimeDaemon, "title": r.Title, "name for VMware": r.Guest.VMware, "keyring on the node": r.KeyringPath, "list of sources": r.SourcesPath,
			} {
				if value == "" {
					t.Errorf("no %s", name)
				}
			}
			for name, text := range r.Presets {
				if path.IsAbs(name) || path.Clean(name) != name || text == "" {
					t.Errorf("preset %q: %q", name, text)
				}
			}
			for _, name := range r.Directories {
				if path.IsAbs(name) || path.Clean(name) != name {
					t.Errorf("directory %q", name)
				}
			}
			for name, list := range map[string][]string{
				"packages": r.Packages, "first": r.First, "excluded": r.Exclude, "included": r.Include, "of the host": r.Host, "empty": r.Empty, "ext4 features": r.Ext4Features,
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

// Fingerprints as Ubuntu publishes them (see signers).
func TestUbuntusKeysAreThoseOfTheArchive(t *testing.T) {
	ring, err := keyring.Parse(ubuntuKeys)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ring.Fingerprints(), []string{
		"790BC7277767219C42C86F933B4FE6ACC0B21F32", "F6ECB3762474EDA9D21B7022871920D1991BC93C",
	}; !slices.Equal(got, want) {
		t.Errorf("fingerprints %q, want %q", got, want)
	}
}

// What has other names in other releases, and what never comes in.
func TestPackageNamesFollowTheRelease(t *testing.T) {
	for _, r := range (Family{}).Releases() {
		have := func(name string) bool { return slices.Contains(r.Packages, name) }
		if have("linux-image-cloud-amd64") != (r.Distro == "debian") || have("ubuntu-keyring") != (r.Distro == "ubuntu") {
			t.Errorf("%s: packages %q", r.Codename, r.Packages)
		}
		if split := r.Distro == "debian" || r.Codename == "noble"; have("systemd-resolved") != split {
			t.Errorf("%s: systemd-resolved %v, want %v", r.Codename, have("systemd-resolved"), split)
		}
		if have("isc-dhcp-client") == have("dhcpcd-base") {
			t.Errorf("%s: not one DHCP client", r.Codename)
		}
		if have("snapd") || (r.Presets["etc/apt/preferences.d/no-snapd"] == "") != (r.Distro == "debian") {
			t.Errorf("%s: snapd may come in", r.Codename)
		}
	}
}
