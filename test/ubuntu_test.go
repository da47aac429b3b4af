package test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/report"
)

// spec writes a spec for an Ubuntu of the archive with a key beside it, and
// returns its path.
func (a *ubuntuArchive) spec(version string, key *openpgp.Entity) string {
	a.t.Helper()
	dir, codename := a.t.TempDir(), ubuntuReleases[version]
	a.write(dir, "archive.asc", a.public(key))
	a.write(dir, "ubuntu.yaml", `apiVersion: nodesmith.dev/v1alpha1
kind: NodeImage
metadata: {name: ubuntu}
spec:
  os: {distro: ubuntu, version: "`+version+`"}
  kubernetes: {version: v1.34.0}
  infrastructures: [qemu]
  source:
    os:
      packages:
        archives:
          - url: `+ubuntuURL+`
            suites: [`+codename+`, `+codename+`-updates, `+codename+`-security]
            components: [main, universe]
            signedBy: [{source: archive.asc}]
  repositories:
    - name: company-tools
      url: `+ubuntuURL+`/tools
      suite: /
      signedBy: [{source: archive.asc}]
  packages: [company-agent]
`)
	return filepath.Join(dir, "ubuntu.yaml")
}

func TestUbuntuIsBuiltFromACompanysArchive(t *testing.T) {
	a := newUbuntuArchive(t)
	for version, kernel := range map[string]string{
		"20.04": "linux-image-virtual-hwe-20.04", "22.04": "linux-image-virtual", "24.04": "linux-image-virtual",
	} {
		t.Run("lock "+version, func(t *testing.T) { a.locks(t, version, kernel) })
	}
	t.Run("build 24.04", a.builds)
	t.Run("keep what is asked for as before", a.keeps)
	t.Run("an archive that another key signed", func(t *testing.T) {
		r := nodesmith(t, "lock", "-f", a.spec("24.04", a.newKey()))
		if r.exit != fault.Unverifiable.ExitCode() || !strings.Contains(r.err, ubuntuURL+"/dists/noble/InRelease: its signature does not hold") {
			t.Errorf("exit code %d\n%s", r.exit, r.err)
		}
	})
}

// locked locks a spec and returns the lock.
func locked(t *testing.T, spec string, flags ...string) *lock.Lock {
	t.Helper()
	l, err := lock.Read(strings.TrimSpace(must(t, append([]string{"lock", "-f", spec, "--progress", "plain"}, flags...)...).out))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// locks checks the lock of a release: the archive's packages, the newest of
// them, and who vouched for them.
func (a *ubuntuArchive) locks(t *testing.T, version, kernel string) {
	l := locked(t, a.spec(version, a.key))
	if len(l.OS.Archives) != 3 {
		t.Errorf("archives %+v", l.OS.Archives)
	}
	signer := strings.ToUpper(hex.EncodeToString(a.key.PrimaryKey.Fingerprint))
	for _, archive := range l.OS.Archives {
		if archive.URL != ubuntuURL || archive.SignedBy != signer || !strings.HasPrefix(archive.Suite, ubuntuReleases[version]) {
			t.Errorf("archive %+v, want one of %s that %s signed", archive, ubuntuURL, signer)
		}
	}
	for name, newest := range map[string]string{kernel: "1.0ubuntu1", "ubuntu-keyring": "2023.11.28.2"} {
		if !slices.ContainsFunc(l.OS.Packages, func(p lock.Package) bool {
			return p.Name == name && p.Version == newest && strings.HasPrefix(p.URL, ubuntuURL+"/pool/main/")
		}) {
			t.Errorf("no %s %s of the archive is locked", name, newest)
		}
	}
}

// keeps locks, lets the archive move on and locks with a package more: what the
// first lock says stays, although no index has one of its packages any longer.
func (a *ubuntuArchive) keeps(t *testing.T) {
	spec := a.spec("24.04", a.key)
	first := locked(t, spec, "--set", "spec.packages=[]")
	a.moveOn("24.04")
	kept, anew := locked(t, spec, "--keep"), locked(t, spec)
	for part, same := range map[string]bool{
		"the operating system": reflect.DeepEqual(kept.OS, first.OS) && kept.Epoch.Equal(first.Epoch),
		"the tools":            reflect.DeepEqual(kept.Tools, first.Tools),
		"Kubernetes":           reflect.DeepEqual(kept.Kubernetes, first.Kubernetes),
	} {
		if !same {
			t.Errorf("%s did not stay", part)
		}
	}
	const keyring = "ubuntu-keyring"
	for name, test := range map[string]struct {
		set           lock.PackageSet
		name, version string
	}{
		"the first lock":             {first.OS, keyring, "2023.11.28.2"},
		"a lock that keeps nothing":  {anew.OS, keyring, "2023.11.28.3"},
		"the kept lock's further":    {kept.Packages, "company-agent", "1.0"},
		"the same without a keeping": {anew.Packages, "company-agent", "1.0"},
	} {
		if !slices.ContainsFunc(test.set.Packages, func(p lock.Package) bool {
			return p.Name == test.name && p.Version == test.version
		}) {
			t.Errorf("%s has no %s %s", name, test.name, test.version)
		}
	}
	if slices.ContainsFunc(kept.Packages.Packages, func(p lock.Package) bool { return p.Name == keyring }) {
		t.Errorf("%s is updated by the further packages", keyring)
	}
}

// builds checks the image of a release.
func (a *ubuntuArchive) builds(t *testing.T) {
	dir := t.TempDir()
	r := must(t, "build", "-f", a.spec("24.04", a.key), "-o", dir, "--set", "spec.formats=[raw]", "--progress", "json")
	if ran := stepsRun(t, r.err); slices.ContainsFunc(ran, func(step string) bool { return strings.HasPrefix(step, "kubernetes: compile") }) {
		t.Errorf("Kubernetes was compiled again: %q", ran)
	}
	a.holds(t, filepath.Join(dir, "ubuntu-qemu.raw"))
	r = must(t, "verify", filepath.Join(dir, "ubuntu-qemu.qcow2"), "--level", "contract", "--strict", "--json")
	var verified report.Verification
	if err := json.Unmarshal([]byte(r.out), &verified); err != nil {
		t.Fatal(err)
	}
	if verified.Image.System != "Ubuntu 24.04 LTS" || verified.Image.Family != contract.Debian || verified.Counts()[contract.Passed] < 100 {
		t.Errorf("%+v of %+v", verified.Counts(), verified.Image)
	}
}

// holds checks where Ubuntu's files lie in an image, and what the node knows of
// its archives.
func (a *ubuntuArchive) holds(t *testing.T, disk string) {
	file, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	image, err := imagefs.Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	signer := strings.ToUpper(hex.EncodeToString(a.key.PrimaryKey.Fingerprint))
	for name, want := range map[string]string{
		"/etc/apt/sources.list.d/ubuntu.sources":        "URIs: " + ubuntuURL + "\nSuites: noble-updates\nComponents: main universe\nSigned-By: /etc/apt/keyrings/" + signer + ".asc\n",
		"/etc/apt/keyrings/" + signer + ".asc":          "BEGIN PGP PUBLIC KEY BLOCK",
		"/etc/apt/sources.list.d/company-tools.sources": "URIs: " + ubuntuURL + "/tools\nSuites: /\nSigned-By: /etc/apt/keyrings/company-tools.asc\n",
		"/etc/apt/preferences.d/no-snapd":               "Pin-Priority: -1\n",
		"/boot/grub/grub.cfg":                           "/boot/vmlinuz",
		"/usr/bin/company-agent":                        "#!/bin/sh",
	} {
		if text, err := image.Tree.ReadFile(name); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s is %q, %v; want %q in it", name, text, err, want)
		}
	}
	for _, name := range []string{"/boot/vmlinuz", "/boot/initrd.img"} {
		if !image.Tree.Exists(name) {
			t.Errorf("no %s", name)
		}
	}
	for _, name := range []string{"/EFI/ubuntu/grub.cfg", "/EFI/ubuntu/shimx64.efi", "/EFI/ubuntu/mmx64.efi"} {
		if !image.ESP.Exists(name) {
			t.Errorf("the ESP has no %s", name)
		}
	}
}
