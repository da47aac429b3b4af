package test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// ubuntuURL is what specs and locks call the test's archive; the server on this
// machine is configured as its mirror.
const ubuntuURL = "http://archive.company.invalid/ubuntu"

// universe are packages that Ubuntu has outside of main.
var universe = []string{"ebtables", "ipset", "jq", "libjq1", "libonig5"}

// ubuntuArchive is an archive with the layout of Ubuntu's, made of Debian's
// packages: those of the example's lock, some of them packed anew so that files
// lie where Ubuntu has them, and a few that are called as in Ubuntu alone.
type ubuntuArchive struct {
	t     *testing.T
	epoch time.Time
	key   *openpgp.Entity
	work  string // folder for packages that are packed here
	// pool maps a path below ubuntuURL to the package there, dists to content.
	pool, dists map[string]string
	// packages maps a component to the stanzas of its packages, updates are
	// those of the suites for updates.
	packages map[string][]string
	updates  []string
}

// ubuntuReleases are the codenames of the releases in the archive.
var ubuntuReleases = map[string]string{"20.04": "focal", "22.04": "jammy", "24.04": "noble"}

// newUbuntuArchive makes the archive, serves it and makes this machine's
// nodesmith take it for the mirror of ubuntuURL.
func newUbuntuArchive(t *testing.T) *ubuntuArchive {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "dpkg-deb")
	l, err := lock.Read(filepath.Join(built, "debian-12.lock.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a := &ubuntuArchive{
		t: t, epoch: l.Epoch, work: t.TempDir(), pool: map[string]string{}, dists: map[string]string{}, packages: map[string][]string{},
	}
	a.key = a.newKey()
	debian := a.debian(l.OS.Packages)
	changes := map[string]func(root string){
		"base-files": func(root string) {
			control := filepath.Join(root, "DEBIAN/control")
			a.write(root, "DEBIAN/control", strings.Replace(a.read(control), "\nProvides: base\n", "\nProvides: base, usr-is-merged\n", 1))
			a.write(root, "usr/lib/os-release", "NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nPRETTY_NAME=\"Ubuntu 24.04 LTS\"\n")
		},
		"shim-signed": func(root string) {
			a.move(root, "usr/lib/shim/shimx64.efi.signed", "usr/lib/shim/shimx64.efi.signed.latest")
		},
		// Debian has the one without a signature at the place of Ubuntu's.
		"shim-unsigned":             func(root string) { a.move(root, "usr/lib/shim/mmx64.efi", "usr/lib/shim/mmx64.efi.unsigned") },
		"shim-helpers-amd64-signed": func(root string) { a.move(root, "usr/lib/shim/mmx64.efi.signed", "usr/lib/shim/mmx64.efi") },
	}
	for _, p := range l.OS.Packages {
		file := debian[p.Name]
		if change := changes[p.Name]; change != nil {
			file = a.repack(p.Name, file, change)
			delete(changes, p.Name)
		}
		a.add(p.Name, file)
	}
	if len(changes) > 0 {
		t.Fatalf("the example's lock has no %v", changes)
	}
	for name, depends := range map[string]string{
		"linux-image-virtual": "linux-image-cloud-amd64", "linux-image-virtual-hwe-20.04": "linux-image-cloud-amd64", "dhcpcd-base": "isc-dhcp-client",
	} {
		a.add(name, a.pack(name, "1.0ubuntu1", depends, nil))
	}
	const ring = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
	a.add("ubuntu-keyring", a.pack("ubuntu-keyring", "2023.11.28.1", "", map[string]string{ring: "a test's\n"}))
	a.update("ubuntu-keyring", "2023.11.28.2", map[string]string{ring: "an update's\n"})
	for version, codename := range ubuntuReleases {
		a.release(codename, version)
	}
	a.flat()
	a.serve()
	return a
}

// debian fetches Debian's packages, or takes them from the cache of downloads.
func (a *ubuntuArchive) debian(packages []lock.Package) map[string]string {
	a.t.Helper()
	settings, err := host.Read()
	if err != nil {
		a.t.Fatal(err)
	}
	cache := fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)
	paths := map[string]string{}
	var wanted []fetch.File
	for _, p := range packages {
		paths[p.Name] = cache.Path(p.SHA256)
		wanted = append(wanted, fetch.File{URL: p.URL, SHA256: p.SHA256, Size: p.Size})
	}
	if err := cache.All(a.t.Context(), wanted); err != nil {
		a.t.Fatal(err)
	}
	return paths
}

// run runs a program; times in what it makes are those of the archive.
func (a *ubuntuArchive) run(name string, args ...string) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", a.epoch.Unix()))
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatalf("%s %v: %v\n%s", name, args, err, errOut.String())
	}
	return string(out)
}

func (a *ubuntuArchive) write(root, name, text string) {
	a.t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *ubuntuArchive) read(path string) string {
	a.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

func (a *ubuntuArchive) move(root, from, to string) {
	a.t.Helper()
	if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
		a.t.Fatal(err)
	}
}

// repack returns a package with files changed, compressed as Ubuntu's are.
func (a *ubuntuArchive) repack(name, file string, change func(root string)) string {
	a.t.Helper()
	root := filepath.Join(a.work, name)
	a.run("dpkg-deb", "--raw-extract", file, root)
	change(root)
	return a.build(root)
}

// pack returns a package that depends on another and has these files.
func (a *ubuntuArchive) pack(name, version, depends string, files map[string]string) string {
	a.t.Helper()
	root := filepath.Join(a.work, name+"_"+version)
	control := "Package: " + name + "\nVersion: " + version + "\nArchitecture: all\nMaintainer: Company <archive@company.invalid>\nDescription: a package of a test\n"
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	a.write(root, "DEBIAN/control", control)
	for path, text := range files {
		a.write(root, path, text)
	}
	return a.build(root)
}

func (a *ubuntuArchive) build(root string) string {
	a.t.Helper()
	a.run("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", root, root+".deb")
	return root + ".deb"
}

// add puts a package into its component.
func (a *ubuntuArchive) add(name, file string) {
	a.t.Helper()
	component := "main"
	if slices.Contains(universe, name) {
		component = "universe"
	}
	path := fmt.Sprintf("pool/%s/%s/%s.deb", component, name[:1], name)
	a.pool[path] = file
	a.packages[component] = append(a.packages[component], a.stanza(file, path))
}

// stanza returns a package's entry in an index.
func (a *ubuntuArchive) stanza(file, path string) string {
	a.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return a.run("dpkg-deb", "--field", file) + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %s\n\n", path, len(data), hex.EncodeToString(sum[:]))
}

// update puts a package into the suites for updates, in place of what they have;
// the file of that stays.
func (a *ubuntuArchive) update(name, version string, files map[string]string) {
	a.t.Helper()
	file, path := a.pack(name, version, "", files), fmt.Sprintf("pool/main/%s/%s_%s.deb", name[:1], name, version)
	a.pool[path] = file
	a.updates = []string{a.stanza(file, path)}
}

// moveOn publishes a release a day later, with an update of the update.
func (a *ubuntuArchive) moveOn(version string) {
	a.t.Helper()
	a.epoch = a.epoch.AddDate(0, 0, 1)
	a.update("ubuntu-keyring", "2023.11.28.3", nil)
	a.release(ubuntuReleases[version], version)
}

// release publishes a release: all packages in its first suite, the updates in
// the second, and nothing in that of security.
func (a *ubuntuArchive) release(codename, version string) {
	a.t.Helper()
	a.suite(codename, codename, version, a.packages)
	a.suite(codename, codename+"-updates", version, map[string][]string{"main": a.updates})
	a.suite(codename, codename+"-security", version, nil)
}

// flat publishes a flat repository below /tools with a package of its own.
func (a *ubuntuArchive) flat() {
	a.t.Helper()
	agent := a.pack("company-agent", "1.0", "jq", map[string]string{"usr/bin/company-agent": "#!/bin/sh\n"})
	a.pool["tools/company-agent.deb"] = agent
	index := a.stanza(agent, "./company-agent.deb")
	sum := sha256.Sum256([]byte(index))
	a.dists["tools/Packages"] = index
	a.dists["tools/InRelease"] = a.signed(fmt.Sprintf("Origin: Company\nDate: %s\nArchitectures: amd64\nSHA256:\n %s %d Packages\n",
		a.epoch.Format(releaseDate), hex.EncodeToString(sum[:]), len(index)))
}

// releaseDate is the layout of dates in Release files.
const releaseDate = "Mon, 02 Jan 2006 15:04:05 UTC"

// suite publishes a suite's packages as Ubuntu does, signed.
func (a *ubuntuArchive) suite(codename, suite, version string, packages map[string][]string) {
	a.t.Helper()
	var digests strings.Builder
	for _, component := range []string{"main", "universe"} {
		plain := strings.Join(packages[component], "")
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write([]byte(plain))
		if err := z.Close(); err != nil {
			a.t.Fatal(err)
		}
		if err != nil {
			a.t.Fatal(err)
		}
		dir := component + "/binary-amd64/"
		for name, text := range map[string]string{"Packages": plain, "Packages.gz": packed.String()} {
			sum := sha256.Sum256([]byte(text))
			fmt.Fprintf(&digests, " %s %d %s%s\n", hex.EncodeToString(sum[:]), len(text), dir, name)
			a.dists["dists/"+suite+"/"+dir+"by-hash/SHA256/"+hex.EncodeToString(sum[:])] = text
		}
	}
	a.dists["dists/"+suite+"/InRelease"] = a.signed(fmt.Sprintf(
		"Origin: Ubuntu\nLabel: Ubuntu\nSuite: %s\nVersion: %s\nCodename: %s\nDate: %s\nArchitectures: amd64\nComponents: main universe\nAcquire-By-Hash: yes\nSHA256:\n%s",
		suite, version, codename, a.epoch.Format(releaseDate), digests.String()))
}

// config is that of a signer at the archive's time, with a small and fast key.
func (a *ubuntuArchive) config() *packet.Config {
	return &packet.Config{Time: func() time.Time { return a.epoch }, Algorithm: packet.PubKeyAlgoEdDSA}
}

func (a *ubuntuArchive) newKey() *openpgp.Entity {
	a.t.Helper()
	key, err := openpgp.NewEntity("Company", "archive of a test", "archive@company.invalid", a.config())
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *ubuntuArchive) signed(text string) string {
	a.t.Helper()
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, a.key.PrivateKey, a.config())
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return signed.String()
}

// public returns a public key, armored.
func (a *ubuntuArchive) public(key *openpgp.Entity) string {
	a.t.Helper()
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return text.String()
}

// serve serves the archive on this machine, and says so in a configuration of
// nodesmith's that stands in for the user's.
func (a *ubuntuArchive) serve() {
	a.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		if text, ok := a.dists[path]; ok {
			_, _ = io.WriteString(w, text)
		} else if file, ok := a.pool[path]; ok {
			http.ServeFile(w, r, file)
		} else {
			http.NotFound(w, r)
		}
	}))
	a.t.Cleanup(server.Close)
	// Which Go proxy this machine asks may be written where its configuration is.
	out, err := exec.CommandContext(a.t.Context(), "go", "env", "GOENV").Output()
	if err != nil {
		a.t.Fatal(err)
	}
	config := a.t.TempDir()
	a.write(config, "nodesmith/config.yaml", "mirrors:\n  "+ubuntuURL+": ["+server.URL+"]\n")
	a.t.Setenv("GOENV", strings.TrimSpace(string(out)))
	a.t.Setenv("XDG_CONFIG_HOME", config)
}
